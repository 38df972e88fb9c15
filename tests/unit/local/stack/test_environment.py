"""The local stack's variables: `.env` is data, unknown names are told, and a value that cannot be used is one sentence."""

import contextlib
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.stack.environment import merge, read, warnings
from local.stack.settings import DEFAULT_STATE_DIR, NAMES, SECRETS, Settings, SettingsError, command, state_dir
from local.stack.template import ROOT


def env(folder: Path, text: str | bytes) -> Path:
    path = folder / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ADMIN_PASSWORD=pa ss\n", "pa ss"),
        ("ADMIN_PASSWORD=pa ss\r\nPORT=1\r\n", "pa ss"),
        ("\ufeffADMIN_PASSWORD=x", "x"),
        ("export ADMIN_PASSWORD=x", "x"),
        ("  ADMIN_PASSWORD = x  \n", "x"),
        ("ADMIN_PASSWORD='it # is' # a comment\n", "it # is"),
        ('ADMIN_PASSWORD="a \\"b\\""\n', 'a "b"'),
        ("ADMIN_PASSWORD=it's\n", "it's"),
        ("ADMIN_PASSWORD=$HOME ${HOME} $(id) `id` ; id && id\n", "$HOME ${HOME} $(id) `id` ; id && id"),
        ("ADMIN_PASSWORD='${HOME}'\n", "${HOME}"),
        ("# a comment\n\nADMIN_PASSWORD=\n", ""),
        ("ADMIN_PASSWORD=密码\n", "密码"),
    ],
)
def test_a_line_is_a_name_and_a_value_and_no_shell(tmp_path: Path, text: str, found: str) -> None:
    assert read(env(tmp_path, text))["ADMIN_PASSWORD"] == found


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1))
def test_any_value_in_single_quotes_is_that_value(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    assert read(env(tmp_path_factory.mktemp("env"), f"A='{quoted}'\n")) == {"A": value}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello", 1),
        ("\n# c\n\nhello sk-secret\n", 4),
        ("PORT=1\nA='sk-secret\n", 2),
        ("A='sk-secret' x", 1),
        ("A=sk-secret\0", 1),
    ],
)
def test_a_line_that_is_none_is_named_by_its_number_and_not_shown(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(SettingsError, match=f"line {line}:") as raised:
        read(env(tmp_path, text))
    assert "secret" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not in UTF-8"):
        read(env(tmp_path, "PORT=1".encode("utf-16")))
    with pytest.raises(SettingsError, match="cannot be read"):
        read(tmp_path)
    assert read(tmp_path / "absent") == {}


def test_a_name_that_nothing_reads_is_told_with_the_nearest_that_something_reads() -> None:
    told = warnings(["ADMIN_PASWORD", "prot", "SOMETHING_ELSE", "PORT", "HTTPS_PROXY"], [])
    assert [re.sub(r"^\S+: ", "", line) for line in told] == [
        "nothing reads ADMIN_PASWORD. Did you mean ADMIN_PASSWORD?",
        "nothing reads prot. Did you mean PORT?",
        "nothing reads SOMETHING_ELSE.",
    ]


def test_of_the_environment_only_slips_of_the_pen_are_told() -> None:
    assert warnings([], ["PATH", "HOME", "PWD", "SHELL", "AWS_PROFILE", "OLDPWD", "TERM", *NAMES]) == []
    assert "DASHSCOPE_API_KEY?" in warnings([], ["DASHSCOPE_APIKEY"])[0]


def test_the_caller_s_environment_wins(tmp_path: Path) -> None:
    lines = read(env(tmp_path, "PORT=1\nWORKERS=2\n"))
    assert merge(lines, {"PORT": "3"}) == {"PORT": "3", "WORKERS": "2"}


def test_the_makefile_gives_no_line_of_the_file_to_a_shell() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not re.search(r"(^|[\s;])(\.|source)\s+\S*\.env", makefile)
    for module in ("stack.run", "clients.chat", "clients.demo", "bench.run", "operations.dlq", "stack.stop"):
        assert f"$(RUN) local.{module}" in makefile


class Noting(Mapping[str, str]):
    """An empty environment that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_the_known_names_are_those_that_are_read_and_explained() -> None:
    noting = Noting()
    Settings.read(noting)
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
    assert noting.asked == set(NAMES), "Settings.read and NAMES of local/stack/settings.py differ"
    assert explained == set(NAMES), ".env.example and NAMES of local/stack/settings.py differ"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "8000.5"),
        ("PORT", "8_000"),
        ("PORT", "٨٠٠٠"),
        ("WORKERS", "-4"),
        ("SIGNUP_CREDITS", "1e6"),
        ("SIGNUP_CREDITS", "-1"),
        ("SIGNUP_CREDITS", "9" * 5000),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "-1"),
        ("SWEEP_SECONDS", "0"),
        ("THROTTLES", "redeem=20"),
        ("THROTTLES", "nothing=1/2"),
        ("DASHSCOPE_HTTP_BASE_URL", "dashscope.aliyuncs.com"),
        ("DASHSCOPE_HTTP_BASE_URL", "ftp://a"),
        ("WECHAT_BASE_URL", "http://"),
        ("WECHAT_OPEN_URL", "http://a:port"),
        ("WECHAT_LOGIN_PAGE", "https://a b"),
        ("ALLOWED_ORIGINS", "app.example"),
        ("ALLOWED_ORIGINS", "https://app.example/path"),
        ("ALLOWED_HOSTS", "https://app.example"),
    ],
)
def test_a_bad_value_is_named_in_one_sentence(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.read({name: value})
    assert str(raised.value).startswith(f"{name}={value}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "ADMIN_PASSWORD"])
@pytest.mark.parametrize("value", ["sk-geheim\n", "sk-geheim x", "sk-geheimé"])
def test_a_bad_secret_is_named_and_not_shown(name: str, value: str) -> None:
    pairs = dict.fromkeys(("WECHAT_APPID", "WECHAT_SECRET", "WECHAT_WEB_APPID", "WECHAT_WEB_SECRET"), "x")
    with pytest.raises(SettingsError, match=f"^{name} ") as raised:
        Settings.read(pairs | {name: value})
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("name", ["WECHAT_APPID", "WECHAT_SECRET", "WECHAT_WEB_APPID", "WECHAT_WEB_SECRET"])
def test_half_of_a_pair_is_told(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is set and WECHAT_"):
        Settings.read({name: "x"})


@given(st.sampled_from(NAMES), st.text(string.printable, max_size=30))
def test_any_value_is_taken_or_refused_in_one_sentence(name: str, value: str) -> None:
    with contextlib.suppress(SettingsError):
        Settings.read({name: value})


def test_lists_may_have_commas_and_spaces() -> None:
    settings = Settings.read(
        {"ALLOWED_ORIGINS": " https://A.example/, http://b:5173", "ALLOWED_HOSTS": "a.example [::1]:80"}
    )
    assert settings.allowed_origins == ("https://a.example", "http://b:5173")
    assert settings.allowed_hosts == ("a.example", "[::1]:80")
    assert Settings.read({"ALLOWED_ORIGINS": "*"}).allowed_origins == ("*",)


def test_a_command_names_the_folder_unless_it_is_the_usual_one() -> None:
    assert command("stop", Path(DEFAULT_STATE_DIR).resolve()) == "make stop"
    assert command("stop", Path("/tmp/a b")) == "STATE_DIR='/tmp/a b' make stop"


def test_a_folder_may_be_in_one_s_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir({"STATE_DIR": "~/x"}) == tmp_path / "x"
    with pytest.raises(SettingsError, match="is no folder"):
        state_dir({"STATE_DIR": "~nobody-at-all/x"})


def test_a_website_sign_in_ends_on_the_stacks_own_page_unless_told_otherwise() -> None:
    pages = {
        "": "http://127.0.0.1:8123/",
        "none": "",
        "https://app.example/in": "https://app.example/in",
    }
    for value, page in pages.items():
        assert Settings.read({"PORT": "8123", "WECHAT_LOGIN_PAGE": value}).wechat_login_page == page
