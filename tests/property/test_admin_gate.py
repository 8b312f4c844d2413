"""Whatever the headers and paths are: nobody gets in without a token and a Host of ours, and nothing but a refusal is
raised."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from eagleray.admin.body import check_content_type
from eagleray.admin.gate import Gate, Refusal
from eagleray.admin.routes import ROUTES, Match, find
from eagleray.admin.tokens import Role, Tokens

ADMIN, READER = b"a" * 43, b"r" * 43
GATE = Gate(Tokens(ADMIN, READER), ["ops.example"])

tokens = st.sampled_from([ADMIN, READER, ADMIN[:-1], b"", b"Bearer", ADMIN + b" "]) | st.binary(max_size=50)
values = (
    st.binary(max_size=60)
    | tokens.map(lambda token: b"Bearer " + token)
    | st.sampled_from(
        [b"localhost", b"127.0.0.1:8265", b"[::1]", b"evil.example", b"http://localhost", b"null"]
    )
)
names = st.sampled_from(
    [b"host", b"origin", b"sec-fetch-site", b"authorization", b"x-ray-authorization", b"cookie"]
)
headers = st.lists(st.tuples(names, values), max_size=6)


@given(headers)
@example([(b"host", b"localhost"), (b"authorization", b"Bearer " + ADMIN)])
def test_only_a_token_at_our_own_door_lets_in(given_headers: list[tuple[bytes, bytes]]) -> None:
    try:
        role = GATE.admit(given_headers)
    except Refusal as refusal:
        assert refusal.status in (400, 401, 403, 421)
        return
    fields = dict(given_headers)
    assert len(fields) == len(given_headers) or b"cookie" in fields
    assert fields[b"host"].lower() in (b"localhost", b"127.0.0.1:8265", b"[::1]") or b":" in fields[b"host"]
    sent = {
        fields.get(name, b"").partition(b" ")[2].strip()
        for name in (b"authorization", b"x-ray-authorization")
    }
    assert (ADMIN if role is Role.ADMIN else READER) in sent
    assert fields.get(b"origin", b"") in (b"", b"http://" + fields[b"host"])


@given(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]),
    st.lists(
        st.sampled_from(["api", "serve", "applications", "v1", "ray", "version", "%2F", "..", "", "a b", "*"])
    )
    | st.just(["api", "v1", "applications", "a%2Fb", "deployments", "d", "scale"]),
)
def test_a_path_is_found_or_not(method: str, segments: list[str]) -> None:
    found = find(method, "/".join(["", *segments]).encode())
    if isinstance(found, Match):
        assert found.route in ROUTES
        assert all(found.variables.values())
    else:
        assert method not in found


@given(st.binary(max_size=40), st.booleans(), st.booleans())
def test_a_content_type_is_json_or_refused(value: bytes, takes_yaml: bool, has_body: bool) -> None:
    try:
        is_yaml = check_content_type(value, takes_yaml=takes_yaml, has_body=has_body)
    except Refusal as refusal:
        assert refusal.status == 415
        return
    kind = value.partition(b";")[0].strip().lower()
    assert (b"yaml" in kind and takes_yaml) if is_yaml else (kind == b"application/json" or not has_body)
