"""`python -m tests.process.apps.sql_till URL PAYMENTS`: a service that writes a database, and leaves events.

It pays until there are so many payments in the database, whoever is killed meanwhile; one at a time runs.
"""

import random
import sys
import time

import psycopg

from tests.process.apps.bridged import Paid, outbox

HOUSEHOLDS = 500
_BATCH = 200


def pay(url: str, count: int) -> None:
    """Pay until so many payments are in the database, or the connection is lost."""
    dice = random.Random()
    with psycopg.connect(url, connect_timeout=2) as connection:
        while True:
            ((done,),) = connection.execute("SELECT coalesce(sum(payments), 0) FROM paid").fetchall()
            if done >= count:
                return
            payments = [
                (dice.randrange(HOUSEHOLDS), dice.randrange(10_000))
                for _ in range(min(_BATCH, count - int(done)))
            ]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO paid VALUES (%s, %s, 1) ON CONFLICT (household) DO UPDATE SET "
                    "cents = paid.cents + excluded.cents, payments = paid.payments + 1",
                    payments,
                )
            outbox.send_many(
                connection, [(household, Paid(household, cents)) for household, cents in payments]
            )
            if dice.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()


def main() -> int:
    """Pay, and begin again when the database goes away."""
    url, count = sys.argv[1], int(sys.argv[2])
    while True:
        try:
            pay(url, count)
        except psycopg.Error:
            time.sleep(0.05)
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main())
