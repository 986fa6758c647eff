"""Static files, as the control plane serves them without collectstatic."""

from django.test import AsyncClient, Client


def test_it_serves_own_files_and_those_of_packages() -> None:
    own = Client().get("/static/gateway.css")
    assert own.status_code == 200
    assert own["content-type"].startswith("text/css")
    assert int(own["content-length"]) == len(own.content) > 0
    assert Client().get("/static/unfold/css/styles.css").status_code == 200


def test_it_answers_not_modified() -> None:
    modified = Client().get("/static/gateway.css")["last-modified"]
    again = Client().get("/static/gateway.css", headers={"if-modified-since": modified})
    assert (again.status_code, again.content) == (304, b"")


async def test_it_serves_asynchronously_without_a_warning() -> None:
    answer = await AsyncClient().get("/static/gateway.css")
    assert answer.status_code == 200
    assert not answer.streaming
