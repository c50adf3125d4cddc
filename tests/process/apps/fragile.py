"""A service whose agent cannot handle one of its events."""

import headrace

app = headrace.App("fragile")
numbers: headrace.Topic[str, int] = app.topic("numbers", key_type=str, value_type=int, partitions=2)
sums: headrace.Table[str, int] = app.Table("sums", key_type=str, value_type=int, default=int)


@app.agent(numbers, on_error=headrace.Stop)
async def add(events: headrace.Stream[int]) -> None:
    """Add up, and fail at 13."""
    async for number in events:
        if number == 13:
            raise ValueError("thirteen is not a number here")
        sums["all"] = sums["all"] + number


app.serve(sums, "/sums")
