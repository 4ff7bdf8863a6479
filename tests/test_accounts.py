"""Logging in: wrong passwords lock an address for a while. Who gets where is in tests/test_personas.py."""

from datetime import timedelta
from ipaddress import ip_network

import pytest
from axes.models import AccessAttempt
from django.conf import settings as product
from django.core.management import call_command
from django.test import RequestFactory
from django.utils import timezone

from calls.gateway.proxies import login_address
from tests.conftest import PASSWORD
from tests.test_pages import text_of

pytestmark = pytest.mark.django_db

LIMIT = product.AXES_FAILURE_LIMIT


def log_in(client, password=PASSWORD, name="analyst", path="/login/", **headers):
    return client.post(path, {"username": name, "password": password}, **headers)


def guess(client, times, **headers):
    return [log_in(client, "guess", f"user-{n}", **headers) for n in range(times)]


class TestTooManyWrongPasswords:
    def test_they_lock_the_address_whatever_names_were_tried(self, client, analyst):
        answers = guess(client, LIMIT)
        assert [answer.status_code for answer in answers] == [200] * (LIMIT - 1) + [429]
        locked = log_in(client)
        assert (locked.status_code, locked["Retry-After"]) == (429, "900")
        assert "Too many wrong passwords came from your address (127.0.0.1). Try again in 15 min" in text_of(
            locked
        )
        assert 'name="password"' not in locked.content.decode()
        assert log_in(client, path="/login/?next=/admin/").status_code == 429
        assert client.get("/calls/").status_code == 302

    def test_fewer_lock_nothing(self, client, analyst):
        guess(client, LIMIT - 1)
        assert log_in(client)["Location"] == "/"

    def test_other_addresses_go_on(self, client, analyst):
        guess(client, LIMIT)
        assert log_in(client, REMOTE_ADDR="192.0.2.7")["Location"] == "/"

    def test_it_is_over_after_a_while_though_tried_meanwhile(self, client, analyst):
        guess(client, LIMIT + 3)
        assert sum(AccessAttempt.objects.values_list("failures_since_start", flat=True)) == LIMIT
        AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15))
        assert log_in(client)["Location"] == "/"
        assert not AccessAttempt.objects.exists()

    @pytest.mark.parametrize("command", [["axes_reset"], ["axes_reset_ip", "127.0.0.1"]])
    def test_an_operator_unlocks_it(self, client, analyst, command):
        guess(client, LIMIT)
        call_command(*command)
        assert log_in(client)["Location"] == "/"

    def test_the_log_names_the_address_and_not_what_was_typed(self, client, analyst, caplog):
        guess(client, LIMIT)
        assert 'Locking out {ip_address: "127.0.0.1", path_info: "/login/"}' in caplog.text
        assert "user-1" not in caplog.text
        assert "guess" not in caplog.text

    def test_whoever_is_in_stays_in(self, client, analyst):
        client.force_login(analyst)
        guess(type(client)(), LIMIT)
        assert client.get("/calls/").status_code == 200


class TestWhoseAddress:
    def test_a_proxys_word_counts_if_it_is_trusted(self, client, analyst, settings):
        settings.TRUSTED_PROXIES = [ip_network("127.0.0.0/8")]
        guess(client, LIMIT, HTTP_X_FORWARDED_FOR="203.0.113.5")
        assert log_in(client, HTTP_X_FORWARDED_FOR="203.0.113.5").status_code == 429
        assert log_in(client, HTTP_X_FORWARDED_FOR="1.2.3.4, 203.0.113.5").status_code == 429
        assert log_in(client, HTTP_X_FORWARDED_FOR="203.0.113.6")["Location"] == "/"

    def test_anybody_elses_does_not(self, client, analyst):
        for n in range(LIMIT):
            guess(client, 1, HTTP_X_FORWARDED_FOR=f"203.0.113.{n}")
        assert log_in(client, HTTP_X_FORWARDED_FOR="203.0.113.200").status_code == 429

    @pytest.mark.parametrize(
        ("peer", "counted"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("", None),
        ],
    )
    def test_of_ipv6_the_network_counts(self, peer, counted):
        assert login_address(RequestFactory().get("/", REMOTE_ADDR=peer)) == counted
