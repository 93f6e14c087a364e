"""From a contract's descriptor to the methods of a plain class, without generated stubs."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

ERROR_TYPE = "quartet.common.v1.Error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method of a contract, with everything that a call of it needs, looked up once.

    Attributes:
        name: `quartet.router.v1.RouterService/Generate`, as spans name it.
        attribute: The name of the Python method, `generate`.
        error_field: The field of the response with which a stream can end in an error, or None.
    """

    name: str
    attribute: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool
    error_field: str | None

    @property
    def path(self) -> str:
        """As HTTP/2 names it."""
        return f"/{self.name}"


@dataclass(frozen=True, slots=True)
class Binding:
    """A contract by its full name, and the object that serves it.

    The object's methods are the rpcs in snake_case; an rpc without one answers UNIMPLEMENTED. `public` marks
    a contract that clients reach: there the metadata that names a tenant or key is not believed. `drain` ends
    what the object does beyond its calls, within the seconds that calls in flight are given, too.
    """

    service_name: str
    service: object
    public: bool = False
    drain: Callable[[float], Awaitable[None]] | None = None

    @property
    def rpcs(self) -> tuple[Rpc, ...]:
        """The contract's methods, served or not."""
        return rpcs_of(self.service_name)

    @property
    def served(self) -> bool:
        """True when the object has at least one of the contract's methods."""
        return any(self.method(rpc) is not None for rpc in self.rpcs)

    def method(self, rpc: Rpc) -> Any:
        """The object's method for an rpc, or None."""
        return getattr(self.service, rpc.attribute, None)


def rpcs_of(service_name: str) -> tuple[Rpc, ...]:
    """The rpcs of a contract; its generated module must have been imported before."""
    try:
        service: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(service_name)
    except KeyError:
        raise LookupError(f"no contract named {service_name!r}: import its _pb2 module first") from None
    return tuple(_rpc(service, method) for method in service.methods)


def _rpc(service: ServiceDescriptor, method: MethodDescriptor) -> Rpc:
    return Rpc(
        name=f"{service.full_name}/{method.name}",
        attribute=re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", method.name).lower(),
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        error_field=_error_field(method.output_type),
    )


def _error_field(response: Descriptor) -> str | None:
    for field in response.fields:
        if field.message_type and field.message_type.full_name == ERROR_TYPE and not field.is_repeated:
            return field.name
    return None
