import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.cli.stack.certificates import LIFETIME, ensure_certificates


def names_of(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in alternatives}


def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "tls")
    files = sorted((tmp_path / "tls").iterdir())
    assert [file.name for file in files] == [
        "ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem",
    ]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_the_edges_certificate_names_this_machine_and_what_was_asked_for(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, ["edge.example", "10.1.2.3"])
    assert {"localhost", "127.0.0.1", "::1", "edge.example", "10.1.2.3"} <= names_of(made.server[0])


def test_what_is_there_and_fits_is_kept(tmp_path: Path) -> None:
    before = ensure_certificates(tmp_path, ["edge.example"]).server[0].read_bytes()
    assert ensure_certificates(tmp_path).server[0].read_bytes() == before
    assert ensure_certificates(tmp_path, ["other.example"]).server[0].read_bytes() != before


def test_a_certificate_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path)
    made.server[0].write_text("-----BEGIN CERTIFICATE-----")
    assert names_of(ensure_certificates(tmp_path).server[0])


def test_a_host_that_dns_does_not_spell_so_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["certs", "--to", str(tmp_path), "--host", "bäd.example"])
    assert result.exit_code == 2
    assert "as DNS has it" in result.output


def test_a_missing_file_or_a_near_end_makes_new_ones(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path)
    before = made.server[0].read_bytes()
    made.client[1].unlink()
    made = ensure_certificates(tmp_path)
    again = made.server[0].read_bytes()
    assert again != before
    assert made.client[1].exists()
    soon = datetime.now(UTC) + LIFETIME
    assert ensure_certificates(tmp_path, now=soon).server[0].read_bytes() != again
