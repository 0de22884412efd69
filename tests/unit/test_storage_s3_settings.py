"""Where S3 is and who asks it, as the environment says."""

import pytest

from visionmesh.storage import S3Settings, open_store, read_s3_settings
from visionmesh.storage.s3 import S3Store

GENERAL = {
    "STORAGE_ENDPOINT": "http://minio:9000/",
    "STORAGE_REGION": "eu-west-1",
    "STORAGE_ACCESS_KEY": "key",
    "STORAGE_SECRET_KEY": "secret",
    "STORAGE_TIMEOUT_SECONDS": "5",
}


def test_nothing_said_is_amazon_and_its_credential_chain() -> None:
    assert read_s3_settings(environ={}) == S3Settings("", "", "", "", 60.0)


def test_what_the_general_variables_say() -> None:
    expected = S3Settings("http://minio:9000", "eu-west-1", "key", "secret", 5.0)
    assert read_s3_settings(environ=GENERAL) == expected
    assert read_s3_settings("DATASETS", GENERAL) == expected


def test_a_store_may_have_variables_of_its_own() -> None:
    own = {
        "DATASETS_STORAGE_ENDPOINT": "https://s3.example.com",
        "DATASETS_STORAGE_ACCESS_KEY": "other",
        "DATASETS_STORAGE_SECRET_KEY": "better",
    }
    found = read_s3_settings("DATASETS", GENERAL | own)
    assert found == S3Settings("https://s3.example.com", "eu-west-1", "other", "better", 5.0)
    assert read_s3_settings("ARTIFACTS", GENERAL | own).endpoint == "http://minio:9000"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"STORAGE_ACCESS_KEY": "key"}, "STORAGE_SECRET_KEY is not"),
        ({"STORAGE_SECRET_KEY": "hush"}, "STORAGE_ACCESS_KEY is not"),
        ({"STORAGE_ENDPOINT": "minio:9000"}, "STORAGE_ENDPOINT = 'minio:9000'"),
        ({"STORAGE_ENDPOINT": "ftp://minio"}, "give the server's address"),
        ({"STORAGE_TIMEOUT_SECONDS": "soon"}, "STORAGE_TIMEOUT_SECONDS = 'soon'"),
        ({"STORAGE_TIMEOUT_SECONDS": "0"}, "above 0"),
        ({"STORAGE_TIMEOUT_SECONDS": "nan"}, "above 0"),
    ],
)
def test_what_is_wrong_is_named(variables: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        read_s3_settings(environ=variables)
    assert "hush" not in str(refusal.value)


def test_secrets_are_not_shown() -> None:
    shown = repr(read_s3_settings(environ=GENERAL))
    assert "minio" in shown
    assert "secret" not in shown.replace("secret_key", "")
    assert "'key'" not in shown


def test_a_url_names_bucket_and_prefix() -> None:
    for url in ("s3://training-datasets", "s3://training-datasets/", "s3://b/some/prefix/", "s3://b/a%20b"):
        store = open_store(url, s3=S3Settings())
        assert isinstance(store, S3Store)
        assert store.uri("a b/c") == url.rstrip("/") + "/a%20b/c"
