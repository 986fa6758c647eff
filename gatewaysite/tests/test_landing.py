"""The page at `/`. No test here may touch the database: the page does not."""

from django.test import Client


def test_it_shows_the_base_url_and_the_ways_on() -> None:
    answer = Client().get("/", headers={"host": "gateway.example:8080"})
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "http://gateway.example:8080/v1/chat/completions" in page
    for link in ("/admin/", "/health", "/metrics"):
        assert f'href="{link}"' in page


def test_it_shows_no_markup_from_a_host_header() -> None:
    answer = Client().get("/", headers={"host": "<script>"})
    assert b"<script>" not in answer.content


def test_it_is_only_read() -> None:
    assert Client().post("/").status_code == 405
