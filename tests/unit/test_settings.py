"""Where settings come from and what is refused."""

from pathlib import Path

import pytest

from services.runtime.settings import ServerSettings, load_settings, server_config
from sirdar.errors import InvalidArgument


class ProbeSettings(ServerSettings):
    model_config = server_config("probe")

    passages: int = 3
    """How many passages."""
    page_port: int | None = 7
    """Port of a page."""


def test_command_line_before_environment_before_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "probe.toml"
    file.write_text('host = "0.0.0.0"\npassages = 5\nport = 1\n')
    monkeypatch.setenv("SIRDAR_PROBE_CONFIG_FILE", str(file))
    monkeypatch.setenv("SIRDAR_PROBE_PASSAGES", "7")
    monkeypatch.setenv("SIRDAR_PROBE_PORT", "2")
    settings = load_settings(ProbeSettings, ["--port", "3"])
    assert (settings.host, settings.passages, settings.port) == ("0.0.0.0", 7, 3)


def test_a_default_can_be_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(ProbeSettings, []).page_port == 7
    assert load_settings(ProbeSettings, ["--page-port", "none"]).page_port is None
    monkeypatch.setenv("SIRDAR_PROBE_PAGE_PORT", "none")
    assert load_settings(ProbeSettings, []).page_port is None


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIRDAR_PROBE_PASAGES", "7")
    with pytest.raises(InvalidArgument, match="SIRDAR_PROBE_PASAGES"):
        load_settings(ProbeSettings, [])


def test_an_unknown_key_in_the_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "probe.toml"
    file.write_text("pasages = 5\n")
    monkeypatch.setenv("SIRDAR_PROBE_CONFIG_FILE", str(file))
    with pytest.raises(InvalidArgument, match="pasages"):
        load_settings(ProbeSettings, [])


@pytest.mark.parametrize("content", [None, "passages = [", "passages = 'many'"])
def test_a_bad_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "probe.toml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SIRDAR_PROBE_CONFIG_FILE", str(file))
    with pytest.raises(InvalidArgument):
        load_settings(ProbeSettings, [])


def test_a_value_out_of_range_names_its_setting() -> None:
    with pytest.raises(InvalidArgument) as refused:
        load_settings(ProbeSettings, ["--port", "70000"])
    assert [field.field for field in refused.value.fields] == ["port"]


def test_help_explains_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(ProbeSettings, ["--help"])
    text = capsys.readouterr().out
    assert "--max-message-bytes" in text
    assert "How many passages." in text
