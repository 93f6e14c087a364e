"""Sums of what answers used."""

from google.protobuf.descriptor import FieldDescriptor

from quartet.common.v1.generation_pb2 import Usage

_COUNTS = tuple(
    field.name for field in Usage.DESCRIPTOR.fields if field.cpp_type != FieldDescriptor.CPPTYPE_STRING
)


def add_usage(total: Usage, more: Usage) -> None:
    """Adds every count of `more` to `total`; a tier is of one answer, and no sum has any."""
    for name in _COUNTS:
        setattr(total, name, getattr(total, name) + getattr(more, name))
