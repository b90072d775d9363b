"""Wire records the way people read them in JSON; the canonical bytes stand beside, as `raw`."""

from prsm.protocol.codec import Record


def readable_record(record: Record) -> dict[str, object]:
    """Fields by name; one of several shapes says which it is as `is`."""
    fields = {name: readable(getattr(record, name)) for name in record.__struct_fields__}
    return (
        fields if record.__struct_config__.tag is None else {"is": type(record).__name__} | fields
    )


def readable(value: object) -> object:
    """Bytes as hex, records as objects, arrays as lists, integers no double holds as text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Record):
        return readable_record(value)
    if isinstance(value, tuple):
        return [readable(item) for item in value]
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    return value
