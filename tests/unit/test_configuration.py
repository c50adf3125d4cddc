"""Settings: who wins, what is refused, and what is never shown."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.configuration import TYPES, Loaded, Origin, load
from headrace.errors import SettingsError
from headrace.settings import SECRETS, Settings

SUM = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def loaded(
    command_line: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    app: Mapping[str, object] | None = None,
    file: Path | None = None,
) -> Loaded:
    return load(
        command_line=command_line or {}, environment=environment or {}, app_arguments=app or {}, file=file
    )


def written(folder: Path, text: str) -> Path:
    file = folder / "headrace.toml"
    file.write_text(text)
    return file


def test_without_anything_every_setting_has_its_default() -> None:
    result = loaded()
    assert result.settings == Settings()
    assert set(result.origins) == set(TYPES)
    assert set(result.origins.values()) == {Origin.DEFAULT}
    assert result.warnings == ()


def test_each_place_wins_over_the_ones_behind_it(tmp_path: Path) -> None:
    file = written(tmp_path, 'data = "file"\n')
    app = {"data": "app"}
    environment = {"HEADRACE_DATA": "environment"}
    steps = [
        (loaded({"data": "line"}, environment, app, file), "line", Origin.COMMAND_LINE),
        (loaded({}, environment, app, file), "environment", Origin.ENVIRONMENT),
        (loaded({}, {}, app, file), "app", Origin.APP),
        (loaded({}, {}, {}, file), "file", Origin.FILE),
        (loaded({}, {}, {}, tmp_path / "missing.toml"), ".headrace/data", Origin.DEFAULT),
    ]
    for result, value, origin in steps:
        assert (result.settings.data, result.origins["data"]) == (value, origin)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("insecure", "yes", True),
        ("insecure", "OFF", False),
        ("unit_records_max", "20_000", 20_000),
        ("unit_time_max_s", "0.25", 0.25),
        ("tokens", f" {SUM}, {SUM} ,", (SUM, SUM)),
        ("store", "Memory", "memory"),
        ("replication_factor", "-1", -1),
    ],
)
def test_text_is_read_by_the_type_of_the_setting(name: str, text: str, value: object) -> None:
    assert getattr(loaded(environment={f"HEADRACE_{name.upper()}": text}).settings, name) == value
    assert getattr(loaded({name: text}).settings, name) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("INSECURE", "maybe", "HEADRACE_INSECURE must be true or false"),
        (
            "UNIT_RECORDS_MAX",
            "many",
            "HEADRACE_UNIT_RECORDS_MAX must be a whole number such as 10_000, not 'many'",
        ),
        ("UNIT_RECORDS_MAX", "0", "unit_records_max (environment) must be more than zero"),
        ("UNIT_TIME_MAX_S", "nan", "unit_time_max_s (environment) must be more than zero"),
        ("STORE", "sqlite", "HEADRACE_STORE must be one of rocksdb, memory, not 'sqlite'"),
        ("LOG", "redis://x", "log (environment) must begin with embedded://"),
        ("LOG", "kafka://", "names neither a file nor a broker"),
        ("HTTP", "6066", "http (environment) must be host:port"),
        ("HTTP", "0.0.0.0:99999", "http (environment) must be host:port"),
        ("PAGE_ROWS_DEFAULT", "5000", "is more than page_rows_max"),
        ("KAFKA_CERT_FILE", "c.pem", "belong together"),
        ("KAFKA_SASL", "PLAIN", "needs kafka_username and kafka_password"),
    ],
)
def test_a_malformed_value_is_refused_with_its_name_and_what_it_must_be(
    name: str, text: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        loaded(environment={f"HEADRACE_{name}": text})
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("HEADRACE_LGO", "HEADRACE_LOG"),
        ("HEADRACE_HTPP", "HEADRACE_HTTP"),
        ("HEADRACE_TOKEN", "HEADRACE_TOKENS"),
        ("HEADRACE_INTANCE", "HEADRACE_INSTANCE"),
        ("HEADRACE_UNIT_RECORD_MAX", "HEADRACE_UNIT_RECORDS_MAX"),
    ],
)
def test_a_near_miss_in_the_environment_is_an_error_that_names_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(SettingsError, match=f"{wrong} .* {right} is one"):
        loaded(environment={wrong: "x"})


@pytest.mark.parametrize(
    "name",
    ["HEADRACE_SERVICE_HOST", "HEADRACE_PORT_6066_TCP_ADDR", "HEADRACE_KAFKA_PORT", "HEADRACE_OWNER_OF_POD"],
)
def test_names_that_others_inject_are_a_warning(name: str) -> None:
    (warning,) = loaded(environment={name: "10.0.0.7"}).warnings
    assert name in warning
    assert "10.0.0.7" not in warning


def test_names_of_our_own_that_are_no_settings_and_foreign_names_say_nothing() -> None:
    assert loaded(environment={"HEADRACE_KAFKA_LIB": "/opt/kafka", "PATH": "/bin"}).warnings == ()


def test_an_empty_variable_counts_as_not_set() -> None:
    result = loaded(environment={"HEADRACE_TOKENS": "", "HEADRACE_UNIT_RECORDS_MAX": " "})
    assert result.settings == Settings()
    assert result.origins["tokens"] is Origin.DEFAULT


def test_an_unknown_name_is_refused_in_every_place_that_is_ours(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"stor in App\(\.\.\.\) is not a setting.*did you mean store\?"):
        loaded(app={"stor": "memory"})
    with pytest.raises(SettingsError, match=r"colour in headrace\.toml is not a setting"):
        loaded(file=written(tmp_path, 'colour = "red"\n'))
    with pytest.raises(SettingsError, match=r"dta in the command line.*did you mean data"):
        loaded({"dta": "x"})


def test_app_arguments_are_values_not_text() -> None:
    result = loaded(app={"data": Path("rows"), "tokens": [SUM], "unit_time_max_s": 1, "store": None})
    assert result.settings.data == "rows"
    assert result.settings.tokens == (SUM,)
    assert result.settings.unit_time_max_s == 1.0
    assert result.origins["store"] is Origin.DEFAULT
    with pytest.raises(SettingsError, match=r"unit_records_max in App\(\.\.\.\) is malformed.*whole number"):
        loaded(app={"unit_records_max": "10"})


def test_a_file_that_is_not_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is not TOML.*line 2"):
        loaded(file=written(tmp_path, 'data = "x"\nlog = \n'))
    with pytest.raises(SettingsError, match="cannot be read"):
        loaded(file=tmp_path)


def test_a_secret_is_never_shown() -> None:
    secrets = {
        "database": "postgresql://shop:hunter1@host/shop",
        "kafka_password": "hunter2",
        "kafka_key_password": "hunter3",
        "http_tls_key_password": "hunter4",
        "peer_secret": ("hunter5 and a few words more",),
        "tokens": (SUM,),
    }
    result = loaded(app=secrets)
    shown = {name: value for name, value, _ in result.shown()}
    assert {shown[name] for name in SECRETS} == {"(hidden)"}
    assert {name for name, value, _ in loaded().shown() if value == "(hidden)"} == set()
    for wrong in ({"tokens": "hunter4"}, {"kafka_password": 5}):
        with pytest.raises(SettingsError) as refusal:
            loaded(app=wrong)
        assert "hunter4" not in str(refusal.value)
    with pytest.raises(SettingsError) as refusal:
        loaded(environment={"HEADRACE_TOKENS": "my-plain-token"})
    assert "my-plain-token" not in str(refusal.value)
    assert "SHA-256" in str(refusal.value)
