"""Makes PBXes in the database that the environment names, and prints the token of each.

`python -m tests.e2e.make_pbx JSON`, a list of fields; so are `destinations` and `routes`.
"""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
django.setup()

from calls.models import Pbx, PromptProfile  # noqa: E402  Django has to be set up first
from calls.simulator.pbx import API_TOKEN, RWI_TOKEN  # noqa: E402  see above

for fields in json.loads(sys.argv[1]):
    destinations, routes = fields.pop("destinations", ()), fields.pop("routes", ())
    pbx = Pbx(**fields)
    if pbx.console_url:
        pbx.api_token, pbx.rwi_token = API_TOKEN, RWI_TOKEN
    pbx.save()
    for each in destinations:
        pbx.destinations.create(**each)
    for each in routes:
        pbx.routes.create(**each | {"profile": PromptProfile.objects.get(slug=each["profile"])})
    print(pbx.pk, pbx.new_ivr_token())  # noqa: T201  the test reads it
