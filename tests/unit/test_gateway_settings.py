"""Settings of the gateway: a wrong one stops the start and says why."""

import pytest

from gateway.settings import BadSettings, read


def test_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.scheduler) == ("127.0.0.1", 8080, "127.0.0.1:50051")
    assert settings.cors_origins == ()


def test_the_environment_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    monkeypatch.setenv("VISIONMESH_SCHEDULER", "mesh:1")
    monkeypatch.setenv("GATEWAY_CORS_ORIGINS", "https://a.example/, http://localhost:5173")
    settings = read(port=9001)
    assert (settings.port, settings.scheduler) == (9001, "mesh:1")
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": 70_000}, "port = 70000"),
        ({"host": "0.0.0.0"}, "nobody logs in yet"),  # noqa: S104 - that is what is refused
        ({"cors_origins": "*"}, "Name the origins"),
        ({"log_level": "LOUD"}, "LOUD"),
        ({"heartbeat_seconds": 0}, "heartbeat_seconds"),
    ],
)
def test_a_wrong_setting_is_named(flags: dict[str, object], words: str) -> None:
    with pytest.raises(BadSettings, match=words.replace("*", r"\*")):
        read(**flags)
