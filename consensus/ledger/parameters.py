"""The parameters of the present: those of the genesis, as decisions have changed them.

Must not know: who decides, or why.
"""

from collections.abc import Iterable

import msgspec

from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.proposals import PARAMETERS_KEY
from prsm.consensus.ledger.state import Reader, read
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Parameters, contradiction
from prsm.protocol.governance import GOVERNED, Category, Rules
from prsm.protocol.transactions.governance import ParameterChange
from prsm.protocol.transactions.results import Code


def parameters_of(reader: Reader) -> Parameters:
    """What the next block runs under, once the block of this state is committed."""
    found = read(reader, PARAMETERS_KEY, Parameters)
    assert found is not None, "a state without parameters"
    return found


def rules_of(parameters: Parameters, category: Category) -> Rules:
    """How a category is decided at present."""
    return {
        Category.CONSTITUTIONAL: parameters.constitutional,
        Category.ECONOMIC: parameters.economic,
        Category.TECHNICAL: parameters.technical,
        Category.SAFETY: parameters.safety,
        Category.OPERATIONAL: parameters.operational,
        Category.COMMUNITY: parameters.community,
        Category.EMERGENCY: parameters.emergency,
    }[category]


def changed(parameters: Parameters, changes: Iterable[ParameterChange]) -> Parameters:
    """Apply changes of governed parameters, all or none.

    Raises:
        Failed: a parameter stands twice, a value is out of bounds, or the whole contradicts
            itself.
    """
    listed = list(changes)
    if len({change.name for change in listed}) != len(listed):
        raise Failed(Code.BAD_VALUE)
    for change in listed:
        head, _, rule = change.name.partition(".")
        value: int | Rules = change.value
        if rule:
            rules = rules_of(parameters, Category[head.upper()])
            value = msgspec.structs.replace(rules, **{rule: change.value})
        parameters = msgspec.structs.replace(parameters, **{head: value})
    try:  # constructors do not check bounds, decoding does
        checked = msgspec.msgpack.decode(encode(parameters), type=Parameters)
    except msgspec.ValidationError as error:
        raise Failed(Code.BAD_VALUE) from error
    if contradiction(checked) is not None:
        raise Failed(Code.BAD_VALUE)
    return checked


def check_governed(changes: Iterable[ParameterChange], category: Category) -> None:
    """Refuse a parameter that nobody may change, or not by this category.

    Raises:
        Failed: UNKNOWN_PARAMETER, PARAMETER_FIXED or WRONG_CATEGORY.
    """
    for change in changes:
        owner = GOVERNED.get(change.name)
        if owner is None:
            is_known = change.name in Parameters.__struct_fields__
            raise Failed(Code.PARAMETER_FIXED if is_known else Code.UNKNOWN_PARAMETER)
        if category not in {owner, Category.CONSTITUTIONAL}:
            raise Failed(Code.WRONG_CATEGORY)
