from quartet.common.v1.generation_pb2 import Usage

_FIELDS = tuple(field.name for field in Usage.DESCRIPTOR.fields)


def add_usage(total: Usage, more: Usage) -> None:
    """Adds every count of `more` to `total`."""
    for name in _FIELDS:
        setattr(total, name, getattr(total, name) + getattr(more, name))
