"""Tokens: what is minted verifies, and nothing else does. Logins with a wrong assertion fail with Azure's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.context import Settings
from emulator.errors import ArmError
from emulator.identity import AUDIENCES, Tokens

ARM = AUDIENCES["arm"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("keys"), "tenant")


def refusal(tokens: Tokens, bearer: str, audiences: tuple[str, ...] = ARM) -> str:
    with pytest.raises(ArmError) as raised:
        tokens.verify(bearer, audiences)
    assert raised.value.status == 401
    return raised.value.code


@pytest.mark.parametrize("scope", ["https://management.azure.com/.default", "https://management.core.windows.net/"])
def test_a_minted_token_verifies(tokens: Tokens, scope: str) -> None:
    claims = tokens.verify(f"Bearer {tokens.mint(scope, 'client')}", ARM)
    assert claims["appid"] == "client"
    assert claims["tid"] == "tenant"


def test_wrong_expired_foreign_and_missing_tokens_are_refused(tokens: Tokens, tmp_path: Path) -> None:
    good = tokens.mint(ARM[0], "client")
    stranger = Tokens(tmp_path, "tenant")
    assert refusal(tokens, "") == "AuthenticationFailed"
    assert refusal(tokens, good, AUDIENCES["ml"]) == "InvalidAuthenticationTokenAudience"
    assert refusal(tokens, tokens.mint(ARM[0], "client", -10)) == "ExpiredAuthenticationToken"
    assert refusal(tokens, stranger.mint(ARM[0], "client")) == "InvalidAuthenticationToken"
    unsigned = jwt.encode({"aud": ARM[0], "exp": 9999999999}, "", algorithm="none")
    assert refusal(tokens, unsigned) == "InvalidAuthenticationToken"
    assert refusal(tokens, tokens.assertion("repo:a/b:ref:refs/heads/main")) == "InvalidAuthenticationToken"


@settings(max_examples=50)
@given(st.data())
def test_no_changed_token_verifies(tokens: Tokens, data: st.DataObject) -> None:
    good = tokens.mint(ARM[0], "client")
    place = data.draw(st.integers(0, len(good) - 2))  # the last character holds bits that base64 ignores
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda char: char != good[place]))
    changed = good[:place] + other + good[place + 1 :]
    assert refusal(tokens, changed)


def test_keys_are_private_and_kept(tmp_path: Path) -> None:
    token = Tokens(tmp_path, "tenant").mint(ARM[0], "client")
    assert Tokens(tmp_path, "tenant").verify(token, ARM)["appid"] == "client"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


# Through azure-identity, as a workflow logs in.

SUBJECT = "repo:acme/phi-release-train:environment:production"


def log_in(emulator_env: dict[str, str], file: Path, assertion: str, client_id: str | None = None) -> Any:
    from azure.identity import WorkloadIdentityCredential

    file.write_text(assertion)
    client = client_id or emulator_env["AZURE_CLIENT_ID"]
    credential = WorkloadIdentityCredential(
        tenant_id=emulator_env["AZURE_TENANT_ID"], client_id=client, token_file_path=str(file)
    )
    return credential.get_token("https://management.azure.com/.default")


@pytest.fixture
def issuer(emulator_settings: Settings) -> Tokens:
    return Tokens(emulator_settings.home, emulator_settings.tenant_id)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"subject": "repo:acme/phi-release-train:pull_request"}, "AADSTS700213"),
        ({"audience": "https://github.com/acme"}, "AADSTS700212"),
        ({"issuer": "https://token.actions.githubusercontent.com/other"}, "AADSTS700211"),
        ({"seconds": -60}, "AADSTS700024"),
    ],
)
def test_a_wrong_assertion_is_refused_with_azures_code(
    emulator_env: dict[str, str],
    emulator_settings: Settings,
    issuer: Tokens,
    tmp_path: Path,
    change: dict[str, Any],
    code: str,
) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    right = {"subject": emulator_settings.federated_subject}
    assert log_in(emulator_env, tmp_path / "right", issuer.assertion(**right)).token
    with pytest.raises(ClientAuthenticationError, match=code):
        log_in(emulator_env, tmp_path / "wrong", issuer.assertion(**{**right, **change}))


@pytest.mark.slow
def test_an_assertion_of_another_issuer_key_or_for_an_unknown_client_is_refused(
    emulator_env: dict[str, str], emulator_settings: Settings, issuer: Tokens, tmp_path: Path
) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    subject = emulator_settings.federated_subject
    (tmp_path / "keys").mkdir()
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        log_in(emulator_env, tmp_path / "forged", Tokens(tmp_path / "keys", "t").assertion(subject))
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        log_in(emulator_env, tmp_path / "right", issuer.assertion(subject), "00000000-0000-0000-0000-000000000001")


@pytest.mark.slow
def test_a_managed_identity_logs_in_with_its_own_federated_credential(
    emulator_env: dict[str, str], ml_client: Any, credential: Any, issuer: Tokens, tmp_path: Path
) -> None:
    from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError
    from azure.mgmt.msi import ManagedServiceIdentityClient

    msi = ManagedServiceIdentityClient(credential, emulator_env["AZURE_SUBSCRIPTION_ID"])
    identity = msi.user_assigned_identities.create_or_update(
        ml_client.resource_group_name, "id-release", {"location": "eastus2"}
    )
    again = msi.user_assigned_identities.create_or_update(
        ml_client.resource_group_name, "id-release", {"location": "eastus2"}
    )
    assert again.client_id == identity.client_id
    with pytest.raises(ClientAuthenticationError, match="AADSTS70025"):
        log_in(emulator_env, tmp_path / "early", issuer.assertion(SUBJECT), identity.client_id)
    body = {
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": SUBJECT,
        "audiences": ["api://AzureADTokenExchange"],
    }
    msi.federated_identity_credentials.create_or_update(
        ml_client.resource_group_name, "id-release", "github-prod", body
    )
    assert log_in(emulator_env, tmp_path / "right", issuer.assertion(SUBJECT), identity.client_id).token
    with pytest.raises(ResourceExistsError):
        msi.federated_identity_credentials.create_or_update(ml_client.resource_group_name, "id-release", "twice", body)
    msi.user_assigned_identities.delete(ml_client.resource_group_name, "id-release")
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        log_in(emulator_env, tmp_path / "late", issuer.assertion(SUBJECT), identity.client_id)
