# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: this module is an action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secret
short_description: Keep secrets in files encrypted by ansible-vault
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Makes sure that a vars file encrypted by ansible-vault holds a secret, and generates it when it is missing.
  - Replaces a secret in two steps, so that the one in use is kept until the new one is proven; see O(state).
  - The file may be encrypted as a whole, or value by value (C(!vault)) among readable variables. Comments, order and
    all other variables stay as they are.
  - Runs on the controller, with the vault passwords that Ansible was given. It does not use the host of the task.
  - No secret is in the result, in the diff or in a message. The variables that Ansible has read stay as they were read;
    M(ansible.builtin.include_vars) reads the file again.
extends_documentation_fragment:
  - microvm.host._attributes.controller
options:
  <<: &item
    name:
      description:
        - Name of the variable.
        - Required, unless O(secrets) is given.
      type: str
    file:
      description:
        - The vars file. A relative path begins at the directory of the playbook. It is made when missing; its
          directory is not.
        - It is replaced as a whole and is then readable by its owner only (C(0600)).
        - Required, unless O(secrets) is given.
      type: path
    state:
      description:
        - What is to be there.
      type: str
      default: present
      choices:
        present:
          There is a secret of this name, O(value) if that is given. One that is there but readable is encrypted.
        staged:
          A second secret waits beside it, named as it with C(_next) behind; O(value), or a generated one. The secret
          itself stays. Nothing waits when O(value) is the secret already.
        promoted:
          The secret that waited has taken the place of the one before, which is gone. Without one that waits nothing
          changes.
        rotated:
          A new generated secret is there each time. Nothing has proven it, so the one before is kept, named with
          C(_previous) behind.
        absent: There is no variable of this name. With C(_next) behind the name, a secret that waits is given up.
    value:
      description:
        - The secret. Generated when omitted or blank.
        - Only with O(state=present) and O(state=staged).
      type: str
    kind:
      description:
        - What the secret is for.
      type: str
      default: password
      choices:
        password: A password; one that is generated has 8 to 255 characters.
        chap: A secret of CHAP (iSCSI); 12 to 16 ASCII characters, which is what initiators and targets agree on.
    length:
      description:
        - Characters of a generated secret; by default 32, with O(kind=chap) 16.
      type: int
    alphabet:
      description:
        - Characters that a generated secret is made of; by default letters, digits and C(._+^). It has at least one of
          each of capitals, small letters and digits that are among them.
        - With too few of them for O(length) a secret could be guessed; less than 64 bits are refused.
      type: str
    vault_id:
      description:
        - The vault ID to encrypt a new file or value with; its password is one of those that Ansible was given. What is
          encrypted as a whole keeps its ID.
        - By default the one of C(--encrypt-vault-id), or the only one there is.
      type: str
    encrypt:
      description:
        - How a new file is encrypted. One that is there stays as it is; a readable one gets encrypted values.
      type: str
      default: file
      choices:
        file: As a whole.
        values: Value by value. An inventory of AWX needs this, as it is read without the password.
    timeout:
      description:
        - Seconds to wait for another run that changes the file, 1 to 3600.
        - Beside O(secrets), for every item that has none of its own.
      type: int
      default: 15
  secrets:
    description:
      - Many secrets in one call. Each has the options of a single one. A file is read and written once.
      - Of those options only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
notes:
  - In a job of AWX the project is a copy that is thrown away. There a call that would write is refused
    (C(unsupported)), and one that finds everything in place is fine.
  - A file with YAML anchors on what is to be changed, in flow style (braces), or with a variable twice is refused.
seealso:
  - module: microvm.host.storage_backend
  - name: Protecting sensitive data with Ansible vault
    description: Vault passwords, vault IDs and client scripts.
    link: https://docs.ansible.com/ansible/latest/vault_guide/index.html
"""

EXAMPLES = r"""
- name: Make sure that there is a password for the share
  microvm.host.vault_secret:
    file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
    name: vault_smb_lab

- name: Keep several secrets, one of them given at the prompt
  microvm.host.vault_secret:
    secrets:
      - name: vault_san1_chap
        file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
        kind: chap
      - name: vault_san1_chap_mutual
        file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
        kind: chap
      - name: vault_nas_token
        file: "{{ inventory_dir }}/group_vars/microvm_hosts/nas.yml"
        value: "{{ nas_token }}"
        vault_id: storage
        encrypt: values
  delegate_to: localhost
  run_once: true

- name: Replace a password; the one in use is kept
  microvm.host.vault_secret:
    file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
    name: vault_smb_lab
    state: staged
    length: 20
    alphabet: abcdefghijkmnpqrstuvwxyz23456789

- name: Read the file again, for vault_smb_lab_next
  ansible.builtin.include_vars:
    file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
  no_log: true

- name: Take the new password into use, after the server and every host have it
  microvm.host.vault_secret:
    file: "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"
    name: vault_smb_lab
    state: promoted

- name: Forget a token
  microvm.host.vault_secret:
    file: "{{ inventory_dir }}/group_vars/microvm_hosts/nas.yml"
    name: vault_nas_token
    state: absent
"""

RETURN = r"""
secrets:
  description: The secrets of this call, in the order in which they were asked for, without their values.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &secret
    name:
      description: Name of the variable.
      returned: always
      type: str
      sample: vault_smb_lab
    changed:
      description: Whether this item was changed, or would be in check mode.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done, or would be in check mode, in order. Empty when nothing changes.
      returned: always
      type: list
      elements: str
      sample:
        - copy vault_smb_lab_next to vault_smb_lab
        - remove vault_smb_lab_next
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: promoted
    file:
      description: The file, as an absolute path without symbolic links.
      returned: always
      type: str
      sample: /srv/inventory/group_vars/microvm_hosts/vault.yml
    encrypt:
      description: How the file is encrypted, V(file) or V(values).
      returned: when the file could be read
      type: str
      sample: file
    vault_id:
      description: The vault ID that the file is, or the value was, encrypted with.
      returned: when known
      type: str
      sample: default
    next:
      description: Whether a new secret waits, named as this one with C(_next) behind.
      returned: when the file could be read
      type: bool
      sample: false
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: not_found
        item: vault_smb_lab
        message: there is no secret vault_smb_lab in /srv/inventory/group_vars/microvm_hosts/vault.yml to be replaced
        hint: "make it first: state=present"
secret:
  description: The secret, when it was asked for by the options at the top; not its value.
  returned: without O(secrets), unless an option is invalid
  type: dict
  contains: *secret
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: >-
    vault_smb_lab: none of the vault passwords opens vault.yml; give it to Ansible: --ask-vault-pass,
    --vault-password-file or --vault-id
error:
  description: The failure for programs; of a list the first one, the others are in the items.
  returned: failure
  type: dict
  contains:
    kind:
      description:
        - The kind of failure. One of V(invalid), V(auth), V(not_found), V(busy), V(full), V(refused), V(conflict),
          V(unsupported) and V(internal).
      returned: always
      type: str
      sample: auth
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: vault_smb_lab
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "give it to Ansible: --ask-vault-pass, --vault-password-file or --vault-id"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: secrets[1].value
"""
