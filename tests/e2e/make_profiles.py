"""Makes the database that the environment names, with profiles: `python -m tests.e2e.make_profiles JSON`."""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
django.setup()

from django.core.management import call_command  # noqa: E402  Django has to be set up first

from calls.models import PromptProfile  # noqa: E402  see above

call_command("migrate", verbosity=0)
for fields in json.loads(sys.argv[1]):
    PromptProfile.objects.create(is_published=True, name=fields["slug"], **fields).publish()
