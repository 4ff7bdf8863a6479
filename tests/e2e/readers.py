"""People who read pages without a pause: `python -m tests.e2e.readers URL COUNT PATH…` until its input ends.

A process of its own, so that what it does holds up no call of the tests. It says "reading" once it is logged
in, and at the end, as JSON, how often each page was read.
"""

import json
import re
import sys
import threading
from collections import Counter

import httpx

PASSWORD = "correct horse battery"


def log_in(url):
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/login/").text)[1]
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token}
        client.post("/login/", data=form)
        return client.cookies


def read(url, cookies, paths, read_pages, stop):
    with httpx.Client(base_url=url, cookies=cookies, trust_env=False, timeout=60) as client:
        while not stop.is_set():
            for path in paths:
                response = client.get(path)
                read_pages[f"{response.status_code} {path}"] += 1


def main(url, count, *paths):
    cookies, read_pages, stop = log_in(url), Counter(), threading.Event()
    arguments = (url, cookies, paths, read_pages, stop)
    readers = [threading.Thread(target=read, args=arguments) for _ in range(int(count))]
    for reader in readers:
        reader.start()
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for reader in readers:
        reader.join()
    sys.stdout.write(json.dumps(read_pages))


if __name__ == "__main__":
    main(*sys.argv[1:])
