# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault files on a real file system, under real vault passwords; ansible-core's own library is the judge."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret, parse_vaulttext_envelope

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._vault_file import Keys, VaultFile

SECRETS = [("dev", VaultSecret(b"one")), ("prod", VaultSecret(b"two"))]
LIB = VaultLib(SECRETS)
PLAIN = "# head\na: 1\nold: hunter2  # why\n"


def opened(path: Path, vault_id: str | None = None, whole: bool = True, default: str | None = "dev") -> VaultFile:
    """The file under the passwords of both IDs."""
    return VaultFile(str(path), Keys(SECRETS, default), vault_id, whole)


def test_a_file_encrypted_as_a_whole_stays_so_under_its_id(tmp_path: Path) -> None:
    path = tmp_path / "vault.yml"
    path.write_bytes(LIB.encrypt(PLAIN, SECRETS[1][1], "prod"))
    path.chmod(0o644)
    file = opened(path, vault_id="dev", whole=False)
    assert (file.whole, file.vault_id, file.secret("old"), file.secret("gone")) == (True, "prod", "hunter2", None)
    file.put("new", "s {{ecret", after="old")
    assert path.stat().st_mode & 0o777 == 0o644  # nothing is written before save
    file.save()
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_vaulttext_envelope(path.read_bytes())[3] == "prod"
    assert LIB.decrypt(path.read_bytes()).decode() == PLAIN + 'new: !unsafe "s {{ecret"\n'
    assert opened(path).secret("new") == "s {{ecret"
    assert os.listdir(tmp_path) == ["vault.yml"]


def test_a_readable_file_gets_encrypted_values(tmp_path: Path) -> None:
    path = tmp_path / "vars.yml"
    path.write_text(PLAIN)
    file = opened(path, vault_id="prod")
    assert not file.whole and not file.is_encrypted("old")
    file.put("old", "hunter2")
    file.put("new", "se#cret")
    file.save()
    text = path.read_text()
    assert text.startswith("# head\na: 1\nold: !vault |  # why\n          $ANSIBLE_VAULT;1.2;AES256;prod\n")
    assert "hunter2" not in text and "se#cret" not in text
    again = opened(path)
    assert [again.secret(name) for name in ("old", "new")] == ["hunter2", "se#cret"]
    assert again.is_encrypted("old") and again.is_encrypted("new")
    again.remove("new")
    again.save()
    assert opened(path).has("old") and "new" not in path.read_text()


@pytest.mark.parametrize("whole", [True, False])
def test_a_new_file_is_encrypted_as_asked(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "vault.yml"
    file = opened(path, whole=whole)
    assert not file.exists
    file.put("new", "secret")
    file.save()
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;dev" if whole else b"---\nnew: !vault |\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert opened(path).secret("new") == "secret"


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "vault.yml").symlink_to("real/vault.yml")
    file = opened(tmp_path / "vault.yml")
    file.put("new", "secret")
    file.save()
    assert (tmp_path / "vault.yml").is_symlink()
    assert os.listdir(tmp_path / "real") == ["vault.yml"]


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".vault.yml.microvm").write_text("half")
    opened(tmp_path / "vault.yml").forget()
    assert os.listdir(tmp_path) == []


def kind_of(path: Path, keys: Keys, vault_id: str | None = None) -> str:
    """What is said when a secret is put into a file."""
    with pytest.raises(HostError) as caught:
        file = VaultFile(str(path), keys, vault_id, True)
        file.secret("pw")
        file.put("pw", "secret")
    assert "secret " not in caught.value.message.replace("secret, name", "")
    return caught.value.kind


def test_passwords_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "vault.yml"
    assert kind_of(path, Keys([], None)) == "auth"
    assert kind_of(path, Keys(SECRETS, None)) == "invalid"  # which of the two?
    assert kind_of(path, Keys(SECRETS, None), "test") == "auth"
    path.write_bytes(LIB.encrypt("pw: x\n", VaultSecret(b"three"), "dev"))
    assert kind_of(path, Keys(SECRETS, "dev")) == "auth"
    assert kind_of(path, Keys(None, None)) == "auth"
    path.write_text("pw: !vault |\n  " + LIB.encrypt("x", VaultSecret(b"three")).decode().replace("\n", "\n  "))
    assert kind_of(path, Keys(SECRETS, "dev")) == "auth"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"$ANSIBLE_VAULT;1.1;AES256\nnonsense\n", "conflict"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n", "conflict"),
        (b"$ANSIBLE_VAULT;1.1\n", "conflict"),
        (b"$ANSIBLE_VAULT;1.1;ROT13\n3132\n", "auth"),
        (b"\xff\xfe\x00", "conflict"),
        (b"pw: '{{ other }}'\n", "conflict"),
        (b"pw: [1]\n", "conflict"),
        (b"pw: !vault nonsense\n", "conflict"),
    ],
)
def test_files_that_are_none_of_ours(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "vault.yml"
    path.write_bytes(content)
    assert kind_of(path, Keys(SECRETS, "dev")) == kind
    assert path.read_bytes() == content


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    assert kind_of(tmp_path, Keys(SECRETS, "dev")) == "conflict"
    assert kind_of(tmp_path / "gone" / "vault.yml", Keys(SECRETS, "dev")) == "not_found"
    assert kind_of(Path("/dev/zero"), Keys(SECRETS, "dev")) == "conflict"


def test_braces_do_not_fit_into_an_encrypted_value(tmp_path: Path) -> None:
    """Ansible takes the decrypted text of !vault for a template."""
    path = tmp_path / "vars.yml"
    path.write_text("a: 1\n")
    with pytest.raises(HostError, match="braces") as caught:
        opened(path).put("pw", "{{x}}")
    assert caught.value.kind == "unsupported"
