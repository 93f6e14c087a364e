"""Makes gen/ from protos/: Python messages and stubs, what Envoy reads, and the image that buf lints.

Usage: python protos/generate.py [--into gen]

The protovalidate wheel carries no `validate.proto`, but its descriptor, so protoc reads that through
`--descriptor_set_in` together with the imports that googleapis-common-protos ships.
"""

import argparse
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate.validate_pb import Violation

SOURCES = Path(__file__).parent
VALIDATE = "buf/validate/validate.proto"


def run_protoc(*arguments: str) -> None:
    """Runs protoc in this process; exits with its status when it refuses the sources."""
    status = protoc.main(["protoc", *arguments])
    if status:
        sys.exit(status)


def write_imports(path: Path, well_known: str, google_api: str) -> None:
    """Writes the descriptor set of everything that the protos import."""
    run_protoc(
        f"-I{google_api}",
        f"-I{well_known}",
        "--include_imports",
        f"--descriptor_set_out={path}",
        "google/api/annotations.proto",
        "google/api/httpbody.proto",
        "google/rpc/error_details.proto",
        "google/protobuf/duration.proto",
        "google/protobuf/timestamp.proto",
        "google/protobuf/field_mask.proto",
        "google/protobuf/descriptor.proto",
    )
    imports = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    imports.file.append(
        descriptor_pb2.FileDescriptorProto.FromString(Violation.desc().file.proto.to_binary())
    )
    path.write_bytes(imports.SerializeToString())


def generate(into: Path) -> None:
    """Replaces `into` as a whole, so that a removed proto leaves nothing behind."""
    well_known = str(resources.files("grpc_tools") / "_proto")
    google_api = str(Path(annotations_pb2.__file__).parents[2])
    own = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".gen-") as folder:
        fresh = Path(folder) / "gen"
        fresh.mkdir()
        imports = Path(folder) / "imports.binpb"
        write_imports(imports, well_known, google_api)
        run_protoc(
            f"--descriptor_set_in={imports}",
            f"-I{SOURCES}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={fresh / 'image.binpb'}",
            *own,
        )
        # Envoy turns error details into JSON, so it must know their types, which no proto of ours imports.
        run_protoc(
            f"--descriptor_set_in={imports}",
            f"-I{SOURCES}",
            "--include_imports",
            f"--descriptor_set_out={fresh / 'quartet.pb'}",
            *own,
            "google/rpc/error_details.proto",
        )
        run_protoc(
            f"--descriptor_set_in={fresh / 'image.binpb'}",
            f"--python_out={fresh}",
            f"--mypy_out={fresh}",
            VALIDATE,
            *own,
        )
        if into.exists():
            shutil.rmtree(into)
        fresh.rename(into)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--into", type=Path, default=Path("gen"), help="the folder to replace (default: gen)")
    generate(parser.parse_args().into)


if __name__ == "__main__":
    main()
