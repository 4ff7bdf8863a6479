"""SIP addresses, read as they come."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calls.rustpbx.sip import MAX_CHARS, Address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("sip:1001@10.0.0.4:5060", Address("1001", "10.0.0.4", 5060)),
        ("sip:agent@10.0.0.4:5060;transport=UDP", Address("agent", "10.0.0.4", 5060)),
        ("SIPS:Ann@PBX.Example.ORG", Address("Ann", "pbx.example.org", None, "sips")),
        ("sip:ann:secret@pbx", Address("ann", "pbx")),
        ("sip:ann?Authorization=secret@pbx", Address("ann", "pbx")),
        ("sip:+49%2030%201234@pbx;user=phone", Address("+49301234", "pbx")),
        ("sip:+49301234;phone-context=x@pbx", Address("+49301234", "pbx")),
        ("sip:j%C3%BCrgen@pbx", Address("jürgen", "pbx")),
        ("sip:a%40b@pbx", Address("a@b", "pbx")),
        ("sip:100%@pbx", Address("100%", "pbx")),
        ("sip:1001@[2001:DB8::1]:5070;lr", Address("1001", "2001:db8::1", 5070)),
        ("sip:[::1]", Address("", "::1")),
        ("sip:1001@::1", Address("1001", "::1")),
        ("sip:pbx.example.org", Address("", "pbx.example.org")),
        ("sip:1001@pbx?subject=x", Address("1001", "pbx")),
        ("tel:+1-201-555-0123;phone-context=example.com", Address("+12015550123", scheme="tel")),
        ("tel:7042", Address("7042", scheme="tel")),
        ('"Ann \\"A\\" Lee" <sip:ann@pbx>;tag=1', Address("ann", "pbx", display='Ann "A" Lee')),
        ('"<sip:evil@x>" <sip:ann@pbx>', Address("ann", "pbx", display="<sip:evil@x>")),
        ("Ann Lee <sip:ann@pbx;transport=tcp>", Address("ann", "pbx", display="Ann Lee")),
        ("<sip:ann@pbx>", Address("ann", "pbx")),
        ("<sip:ann@pbx", Address("ann", "pbx")),
        ("ann@pbx:5062", Address("ann", "pbx", 5062)),
        ("1001", Address("1001")),
        ("+49 (30) 12-34", Address("+49301234")),
        ("anonymous", Address("anonymous")),
        ("", Address("")),
        ("sip:", Address("")),
        ("sip:1001@pbx:99999", Address("1001", "pbx")),
    ],
)
def test_addresses_as_they_come(text, address):
    assert parse(text) == address


def test_an_address_is_written_without_what_belongs_to_the_transport():
    assert str(parse('"Ann" <sip:ann:secret@[::1]:5060;transport=tls>')) == "sip:ann@[::1]"
    assert str(parse("tel:+1-555")) == "tel:+1555"
    assert str(parse("sips:pbx:5061")) == "sips:pbx"
    assert str(parse("")) == ""
    assert (parse("sip:pbx").name, parse("sip:7@pbx").name) == ("pbx", "7")


@given(st.text(max_size=300))
@example("<" * 200)
@example('"' * 201)
@example("sip:" + "%" * 50 + "@" * 50)
def test_anything_is_read_somehow(text):
    address = parse(text)
    assert address.port is None or 0 < address.port <= 65_535
    assert str(address) is not None


@given(
    st.from_regex(r"[a-z0-9_.!~*'()\-]{1,20}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9.\-]{0,20}", fullmatch=True),
    st.none() | st.integers(1, 65_535),
    st.sampled_from(["", ";transport=UDP", ";lr;x=1", "?subject=hi"]),
    st.booleans(),
)
def test_well_formed_addresses_are_read_as_they_were_written(user, host, port, rest, in_brackets):
    uri = f"sip:{user}@{host}{f':{port}' if port else ''}{rest}"
    address = parse(f'"N" <{uri}>;tag=7' if in_brackets else uri)
    assert (address.host, address.port) == (host, port)
    assert address.user in (user, parse(user).user)
    assert address.display == ("N" if in_brackets else "")


def test_a_long_address_takes_no_time():
    parse('"' + "\\" * 10_000_000)
    parse("sip:" + "1 " * MAX_CHARS + "x")
