"""The service that booking-history replaces: its loop, its table and its way to commit.

It inserts one booking per transaction, logs an error and goes on, and lets the consumer commit by itself, so a committed
record need not be stored, and a stored record need not be committed.
"""

import asyncio
import json
import os
import sys
from datetime import datetime

from aiokafka import AIOKafkaConsumer
from sqlalchemy import DateTime, String
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class BookingHistory(Base):
    __tablename__ = "booking_history"

    id: Mapped[int] = mapped_column(primary_key=True)
    booking_id: Mapped[str] = mapped_column(String, unique=True, index=True)
    user_id: Mapped[str] = mapped_column(String, index=True)
    hotel_id: Mapped[str] = mapped_column(String, index=True)
    promo_code: Mapped[str | None] = mapped_column(String)
    discount_percent: Mapped[float]
    price: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def main() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    session = async_sessionmaker(engine)
    if "--create" in sys.argv:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        return
    consumer = AIOKafkaConsumer(
        os.environ["KAFKA_TOPIC"],
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["KAFKA_GROUP_ID"],
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        # Shorter than its 5 s and 10 s, so that a test need not wait.
        auto_commit_interval_ms=100,
        session_timeout_ms=2000,
        heartbeat_interval_ms=300,
    )
    await consumer.start()
    async for message in consumer:
        place = f"{message.partition}/{message.offset}"
        data = json.loads(message.value)["data"]
        booking_id = data.pop("id")
        data["created_at"] = datetime.fromisoformat(data["created_at"].replace("Z", "+00:00"))
        try:
            async with session.begin() as transaction:
                transaction.add(BookingHistory(booking_id=booking_id, **data))
            print(f"saved {place}", file=sys.stderr, flush=True)
        except Exception as error:
            print(f"failed {place} {type(error).__name__}", file=sys.stderr, flush=True)


asyncio.run(main())
