"""What charts draw, and what the table beside them says."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.template.loader import render_to_string

from analytics.charts import Chart, Series, time_labels
from analytics.usage import Period

NOON = datetime(2026, 6, 3, 12, 30, tzinfo=UTC)


def costs(*nanousd):
    period = Period.days(len(nanousd), now=NOON)
    return Chart.of_time("cost", "Cost <b>", period, [Series("Cost", nanousd, "accent")], unit="usd")


def test_money_is_drawn_about_and_told_exactly():
    chart = costs(1, None, 2_500_000_001)
    series = {"label": "Cost", "values": [1e-9, None, 2.500000001], "tone": "accent"}
    assert chart.drawing["series"] == [series]
    assert chart.rows == [["1 Jun", "$0.000000001"], ["2 Jun", "-"], ["3 Jun", "$2.500000001"]]
    assert chart.heads == ["Time (UTC)", "Cost"]


def test_the_page_has_the_numbers_as_a_table_and_no_script_of_its_own():
    html = render_to_string("charts/chart.html", {"chart": costs(5 * 10**8)})
    assert "Cost <b>" not in html
    assert "<td>$0.50</td>" in html
    data = html.partition('<script id="cost" type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data)["series"][0]["values"] == [0.5]
    assert html.count("<script") == 1
    assert "style=" not in html


def test_an_empty_chart_says_so():
    chart = costs(0, None)
    assert chart.is_empty
    assert "Nothing in this time." in render_to_string("charts/chart.html", {"chart": chart})


def test_other_units_are_in_words():
    def words(unit, value):
        return Chart("c", "C", ["x"], [Series("s", [value])], unit).rows[0][1]

    assert words("count", 12_345) == "12,345"
    assert words("ms", 1250.0) == "1.25\N{NO-BREAK SPACE}s"
    assert words("percent", 12.34) == "12.3 %"


def test_steps_are_named_by_the_clocks_of_their_zone():
    kolkata = ZoneInfo("Asia/Kolkata")
    assert time_labels(Period.days(2, now=NOON, zone=kolkata)) == ["2 Jun", "3 Jun"]
    hours = Period.hours(2, now=NOON, zone=kolkata)
    assert time_labels(hours) == ["17:00", "18:00"]
    assert time_labels(Period.hours(14, now=NOON))[:2] == ["2 Jun 23:00", "3 Jun 00:00"]
