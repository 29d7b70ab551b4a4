from tests.hosts.conftest import port

__all__ = ["port"]
