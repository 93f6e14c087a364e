import pytest
from psycopg.conninfo import conninfo_to_dict

from services.kit.postgres import spell_out_hosts


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/x",
        "postgresql://u:p%40ss@[::1]:5432/x?sslmode=require",
        "postgresql:///x?host=/run/postgresql",
    ],
)
def test_a_url_of_one_server_stays_as_it_is(url: str) -> None:
    assert spell_out_hosts(url) == url


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u:p%40:%2Fs@one:5432,two:5433/x?sslmode=require", "one,two", "5432,5433"),
        ("postgresql://u:p%40:%2Fs@/x?host=one,two&port=5433&sslmode=require", "one,two", "5433,5433"),
        ("postgresql://u:p%40:%2Fs@one,two/x?sslmode=require", "one,two", ","),
        ("postgresql://u:p%40:%2Fs@[::1]:5432,[::2]/x?sslmode=require", "::1,::2", "5432,"),
    ],
)
def test_several_servers_become_parameters_and_all_else_is_kept(url: str, hosts: str, ports: str) -> None:
    spelt = spell_out_hosts(url)
    assert spelt.startswith("postgresql://u:p%40%3A%2Fs@/x?")
    assert conninfo_to_dict(spelt) == {
        "user": "u",
        "password": "p@:/s",
        "dbname": "x",
        "host": hosts,
        "port": ports,
        "sslmode": "require",
    }
