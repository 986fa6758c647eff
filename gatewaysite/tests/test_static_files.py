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


def test_it_serves_a_part_and_the_head_alone() -> None:
    whole = Client().get("/static/gateway.css").content
    part = Client().get("/static/gateway.css", headers={"range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole[5:10])
    head = Client().head("/static/gateway.css")
    assert (head.content, int(head["content-length"])) == (b"", len(whole))


def test_it_leaves_other_paths_to_django() -> None:
    assert Client().get("/static/no-such-file.css").status_code == 404


async def test_it_serves_asynchronously_without_a_warning() -> None:
    answer = await AsyncClient().get("/static/gateway.css")
    assert answer.status_code == 200
    assert not answer.streaming
