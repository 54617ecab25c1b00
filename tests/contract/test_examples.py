# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the documentation are what the modules take."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.contract.specs import Spec, example_tasks, read_all


@pytest.mark.parametrize("spec", read_all(), ids=lambda spec: spec.name)
def test_examples_are_valid(spec: Spec) -> None:
    """By the argument spec, and by the resource's own validation."""
    tasks = list(example_tasks(spec))
    assert tasks, "no example"
    for title, args in tasks:
        checked = ArgumentSpecValidator(spec.call).validate(args)
        assert not checked.error_messages, title
        if spec.resource is None:
            continue
        values = checked.validated_parameters
        listed = values.get(spec.plural)
        pairs = list(zip(listed, args[spec.plural], strict=True)) if listed is not None else [(values, args)]
        wanted = []
        for index, (value, given) in enumerate(pairs):
            item = {key: value.get(key) for key in spec.item}
            wanted.append(spec.resource.validate(item, given, f"{spec.plural}[{index}]."))
        spec.resource.together(wanted)
        assert all(each.name for each in wanted), title
