"""A profile whose calls are divided between two of its versions: the fields of `PromptProfile` about that."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class Split(models.Model):
    """The fields; `PromptProfile` has them. They are in force when they are saved, as no version has them."""

    split_version = models.ForeignKey(
        "calls.ProfileVersion",
        verbose_name="second version",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Answers a part of the calls, so that the two can be compared. Empty: the current version "
        "answers all of them.",
    )
    split_percent = models.PositiveSmallIntegerField(
        "its share",
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(99)],
        help_text="Percent of the calls that the second version answers, 1 to 99; chance decides which.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Raise ValidationError for a version of another profile."""
        super().clean()
        if self.split_version is not None and self.split_version.profile_id != self.pk:
            raise ValidationError({"split_version": "Choose a version of this profile."})
