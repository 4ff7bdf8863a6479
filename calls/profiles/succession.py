"""Who answers the calls that name no profile, once another does not any more."""

from collections.abc import Iterable

from calls.models import PromptProfile


def after_deleting(profiles: Iterable[PromptProfile]) -> str:
    """What comes of deleting these profiles, in a sentence; "" if the same profile goes on answering."""
    leaving = {profile.pk for profile in profiles}
    answering = PromptProfile.objects.answering()
    if answering is None or answering.pk not in leaving:
        return ""
    heir = PromptProfile.objects.exclude(pk__in=leaving).answering()
    return _words(heir, is_default=heir is not None and heir.is_default)


def after_saving(stored: PromptProfile, *, is_published: bool, is_default: bool) -> str:
    """What comes of saving a profile so; "" if it goes on being the default, or was not what answers."""
    if stored.pk is None or (is_published and (is_default or not stored.is_default)):
        return ""
    if not is_published:
        return after_deleting([stored])
    return _words(PromptProfile.objects.usable().order_by("pk").first(), is_default=False)


def _words(heir: PromptProfile | None, *, is_default: bool) -> str:
    if heir is None:
        return "No profile is left that calls may use: every call will be refused."
    if is_default:
        return f"Calls that name no profile will be answered by “{heir}”, the default."
    return (
        f"No profile will be the default: calls that name none will be answered by “{heir}”, "
        "the oldest published one."
    )
