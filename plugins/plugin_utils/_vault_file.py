# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in one vars file: encrypted as a whole, or each value by itself. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    AnsibleVaultError,
    VaultLib,
    is_encrypted,
    match_encrypt_vault_id_secret,
    parse_vaulttext_envelope,
)

from ansible_collections.microvm.host.plugins.module_utils._host import files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._vars_file import VarsFile, is_template, quoted

MODE = 0o600
NONCE = "microvm"
"""In the temporary name beside the file; one for all runs, as only one writes at a time. It is hidden from Ansible."""
HINT = "give it to Ansible: --ask-vault-pass, --vault-password-file or --vault-id"


class Keys:
    """The vault passwords that Ansible was given: from files, client scripts and prompts, each with its vault ID."""

    def __init__(self, secrets: t.Sequence[tuple[str, t.Any]] | None, default: str | None) -> None:
        """``default`` is the vault ID to encrypt with, as configured (``--encrypt-vault-id``)."""
        self._secrets = list(secrets or ())
        self._default = default
        self._lib = VaultLib(self._secrets)

    def decrypt(self, data: bytes, what: str) -> tuple[bytes, str, t.Any]:
        """The plain text of ``what``, its vault ID, and the password that opened it.

        Raises HostError ``auth`` or ``conflict``.
        """
        if not self._secrets:
            raise HostError("auth", "%s is encrypted, and no vault password was given" % what, HINT)
        try:
            vault_id = str(parse_vaulttext_envelope(data)[3])
            plain, dummy, secret = self._lib.decrypt_and_get_vault_id(data)
        except AnsibleVaultError:
            raise HostError("auth", "none of the vault passwords opens %s" % what, HINT) from None
        except AnsibleError:
            raise HostError("conflict", "%s is damaged: not a vault's text" % what, "restore it") from None
        return bytes(plain), vault_id, secret

    def for_new(self, vault_id: str | None) -> tuple[str, t.Any]:
        """Vault ID and password for what is encrypted the first time. Raises HostError ``auth`` or ``invalid``."""
        wanted = vault_id or self._default
        known = sorted({known for known, dummy in self._secrets})
        if not known:
            raise HostError("auth", "no vault password was given to encrypt with", HINT)
        if wanted is None:
            if len(known) > 1:
                text = "vault_id: passwords of several vault IDs were given (%s)" % ", ".join(known)
                raise HostError("invalid", text, "name the one to encrypt with", field="vault_id")
            wanted = known[0]
        try:
            match: tuple[str, t.Any] = match_encrypt_vault_id_secret(self._secrets, wanted)
        except AnsibleVaultError:
            text = "vault_id: no password of vault ID %s was given, but of %s" % (wanted, ", ".join(known))
            raise HostError("auth", text, HINT, field="vault_id") from None
        return match

    def encrypt(self, text: str, vault_id: str, secret: t.Any) -> bytes:
        """A vault's text under this ID and password."""
        done: bytes = self._lib.encrypt(text, secret, vault_id)
        return done


class VaultFile:
    """One vars file in memory; ``save`` puts it in place. All methods raise HostError."""

    def __init__(self, path: str, keys: Keys, vault_id: str | None, whole: bool) -> None:
        """Read ``path``. When there is no such file, ``whole`` says how it is to be encrypted, with ``vault_id``."""
        self.path = os.path.realpath(path)
        self.whole = whole
        self._keys = keys
        self._wanted_id = vault_id
        data = self._read()
        self.exists = data is not None
        if data is not None:
            self.whole = is_encrypted(data)
        self.vault_id, self._secret = vault_id, None
        if data is not None and self.whole:
            data, self.vault_id, self._secret = keys.decrypt(data, path)
        try:
            self._vars = VarsFile(path, (data or b"---\n").decode())
        except UnicodeDecodeError:
            raise HostError("conflict", "%s is not text in UTF-8" % path, "is this the file you meant?") from None

    def secret(self, name: str) -> str | None:
        """The value of a variable; None when there is none or it is empty. ``conflict`` when it is no secret."""
        node = self._vars.node(name)
        if node is None or node.value == "":
            return None
        text = str(node.value)
        if self._is_vault(name):
            text = self._keys.decrypt(text.encode(), "%s in %s" % (name, self.path))[0].decode()
        if node.tag != "!unsafe" and is_template(text):
            message = "%s in %s is a template, not a secret" % (name, self.path)
            raise HostError("conflict", message, "name the variable that it takes the secret from")
        return text

    def is_encrypted(self, name: str) -> bool:
        """Whether nobody can read the value of a variable without a password."""
        return self.whole or self._is_vault(name)

    @property
    def text(self) -> str:
        """The text as edited, decrypted if the file is encrypted as a whole; set it to take edits back."""
        return self._vars.text

    @text.setter
    def text(self, text: str) -> None:
        self._vars = VarsFile(self.path, text)

    def put(self, name: str, secret: str, after: str | None = None) -> None:
        """Give a variable a value, encrypted as the file is; a new one goes below ``after`` or to the end."""
        if self._secret is None:
            self.vault_id, self._secret = self._keys.for_new(self._wanted_id)
        if self.whole:
            self._vars.put(name, quoted(secret, unsafe=is_template(secret)), after)
        elif is_template(secret):
            message = "%s has braces that Ansible would take for a template in %s" % (name, self.path)
            raise HostError("unsupported", message, "keep it in a file that is encrypted as a whole")
        else:
            self._vars.put(name, "!vault |\n" + self._encrypted(secret), after)

    def remove(self, name: str) -> None:
        """Take a variable out."""
        self._vars.remove(name)

    def has(self, name: str) -> bool:
        """Whether a variable is there, empty or not."""
        return name in self._vars.nodes

    def save(self) -> None:
        """Write the file: the old one or the new one is there, never half of one, and only its owner reads it."""
        data = self._encrypted(self.text).encode() if self.whole else self.text.encode()
        before = os.stat(self.path) if self.exists and os.geteuid() == 0 else None
        files.write(self.path, data, MODE, NONCE, (before.st_uid, before.st_gid) if before else None)

    def forget(self) -> None:
        """Remove what a killed ``save`` left."""
        try:
            files.forget(self.path, NONCE)
        except OSError as error:
            raise files.from_os(error, "removing what an earlier run left beside %s" % self.path) from None

    def _is_vault(self, name: str) -> bool:
        node = self._vars.node(name)
        return node is not None and node.tag in ("!vault", "!vault-encrypted")

    def _encrypted(self, text: str) -> str:
        return self._keys.encrypt(text, self.vault_id or "default", self._secret).decode()

    def _read(self) -> bytes | None:
        if not os.path.lexists(self.path):
            folder = os.path.dirname(self.path)
            if not os.path.isdir(folder):
                message = "file: there is no directory %s" % folder
                raise HostError("not_found", message, "make it, or name another file", field="file")
            return None
        if not os.path.isfile(self.path):
            raise HostError("conflict", "file: %s is not a file" % self.path, "name a file", field="file")
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except OSError as error:
            raise files.from_os(error, "reading %s" % self.path) from None
