"""Creates profiles in the database the environment names: `python -m tests.e2e.make_profiles JSON`."""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
django.setup()

from calls.models import PromptProfile  # noqa: E402  Django has to be set up first

for fields in json.loads(sys.argv[1]):
    PromptProfile.objects.create(is_published=True, name=fields["slug"], **fields).publish()
