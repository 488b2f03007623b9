"""The forms of other programs: what they export is read whole, what we write they (and we) read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.cli.commands.secrets.interchange import FORMATS, Secret, compose, parse
from keychain_auth.client import dotenv
from keychain_auth.errors import UsageError

BITWARDEN = (
    "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
    'Work,,login,Mail,"two\nlines",,0,https://mail.example,ann,"p,w""1",otpauth://totp/x\n'
    ",,note,Just a note,text,,0,,,,\n"
)
CHROME = "name,url,username,password,note\nsite,https://a,ann,one,\nsite,https://a,bob,two,hello\n"
KEEPASSXC = (
    '"Group","Title","Username","Password","URL","Notes","TOTP","Icon","Last Modified","Created"\n'
    '"Root/Web","Shop","ann","pw","https://shop","","","0","2026-01-01T00:00:00Z","2026-01-01T00:00:00Z"\n'
)
ONEPASSWORD = (
    "Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\nBank,https://b,ann,pw,,false,false,,n\n"
)
DOTENV = """
# a comment
PLAIN=value # another
export QUOTED="two\\nlines and a \\"mark\\" and \\$HOME"
LITERAL='$not \\n escaped'
LONG="first
second"
EMPTY=
"""


def test_exports_of_password_managers() -> None:
    assert parse("bitwarden", BITWARDEN) == [
        Secret("", "Mail", 'p,w"1', {"username": "ann", "url": "https://mail.example", "folder": "Work"}),
        Secret("", "Mail:notes", "two\nlines", {"username": "ann", "url": "https://mail.example", "folder": "Work"}),
        Secret(
            "", "Mail:totp", "otpauth://totp/x", {"username": "ann", "url": "https://mail.example", "folder": "Work"}
        ),
        Secret("", "Just a note:notes", "text", {}),
    ]
    assert [(each.target, each.value) for each in parse("chrome", CHROME)] == [
        ("site/ann", "one"),
        ("site/bob", "two"),
        ("site/bob:notes", "hello"),
    ]
    assert parse("keepassxc", "\ufeff" + KEEPASSXC) == [
        Secret("", "Shop", "pw", {"username": "ann", "url": "https://shop", "folder": "Root/Web"})
    ]
    assert [each.target for each in parse("1password", ONEPASSWORD)] == ["Bank", "Bank:notes"]


def test_dotenv() -> None:
    assert {each.target: each.value for each in parse("dotenv", DOTENV)} == {
        "PLAIN": "value",
        "QUOTED": 'two\nlines and a "mark" and $HOME',
        "LITERAL": "$not \\n escaped",
        "LONG": "first\nsecond",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("dotenv", "no equals", "line 1 is not"),
        ("dotenv", "\n1X=y", "line 2 is not"),
        ("dotenv", 'A="secret', "line 1: the quotation mark"),
        ("dotenv", 'A="secret" more', "line 1: something follows"),
        ("dotenv", "A=1\nA=2", "stands twice"),
        ("json", "[", "not JSON"),
        ("json", '{"a":"1","a":"2"}', "twice"),
        ("json", '{"a":1}', "text"),
        ("json", '[{"target":"a"}]', "entry 1"),
        ("json", '[{"target":"a","value":"secret","x":1}]', "entry 1"),
        ("json", '"secret"', "neither"),
        ("json", '{"a":"\\ud800"}', "not JSON"),
        ("bitwarden", CHROME, "no column"),
        ("chrome", "name,url,username,password,note\nx,y\n", "line 2"),
        ("chrome", 'name,url,username,password,note\n"x', "line"),
        ("chrome", "name,url,username,password,note\n,u,a,secret,\n", "without a name"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_shown(form: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(form, text)
    assert "secret" not in str(caught.value)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
NAMES = st.text(st.characters(categories=["L", "N"], include_characters=" /:._-"), min_size=1, max_size=15).filter(
    lambda name: name == name.strip()
)


@given(st.dictionaries(NAMES, TEXT, max_size=5), st.dictionaries(st.sampled_from(["username", "url"]), TEXT))
def test_what_is_written_is_read_back(values: dict[str, str], attributes: dict[str, str]) -> None:
    for form in FORMATS:
        if form == "dotenv":
            continue
        secrets = [Secret("", target, value, attributes) for target, value in values.items()]
        assert parse(form, compose(form, secrets)) == secrets, form


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True), TEXT, max_size=5))
def test_what_is_written_as_dotenv_is_read_back(values: dict[str, str]) -> None:
    secrets = [Secret("", target, value) for target, value in values.items()]
    assert parse("dotenv", compose("dotenv", secrets)) == secrets


def test_what_a_form_cannot_hold_is_refused() -> None:
    for form, secret in (
        ("dotenv", Secret("s", "not a variable", "v")),
        ("dotenv", Secret("s", "A", "\0")),
        ("chrome", Secret("s", "t", "v", {"environment": "prod"})),
        ("chrome", Secret("s", "t", "v", {"folder": "f"})),
        ("bitwarden", Secret("s", "t", "")),
    ):
        with pytest.raises(UsageError):
            compose(form, [secret])


def test_a_long_value_in_quotes_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 KB of lines in quotes took ten seconds, and files of variables come with other people's repositories."""
    text = 'A="' + "x\n" * 5000 + '"'
    looked = 0
    end = dotenv._end

    def counted(rest: str, at: int) -> tuple[int, int]:
        nonlocal looked
        looked += len(rest) - at
        return end(rest, at)

    monkeypatch.setattr(dotenv, "_end", counted)
    assert dotenv.variables(text) == [("A", "x\n" * 5000)]
    naive = sum(2 * number for number in range(5000))  # from its beginning for each line
    assert looked <= len(text) < naive / 1000


@pytest.mark.parametrize("value", ["x\\", "\\\n", "a\\\\\nb", "\\\n\"'"])
def test_a_backslash_at_the_end_of_a_line_escapes_across_it(value: str) -> None:
    assert parse("dotenv", compose("dotenv", [Secret("", "A", value)])) == [Secret("", "A", value)]
    assert dotenv.variables('A="one\\\n" # rest') == [("A", "one\\\n")]
