"""Files of quoted messages: where that is switched on, a reply orders the file of the message that it quotes."""

from __future__ import annotations

from typing import Any

from tests.integration.files import CHAT, JPEG, Files, downloading, media_environment, media_message, open_desk
from tests.integration.media_fixtures import emptied
from tests.integration.written import Record
from tests.stack import Servers

_ON = {"WAPIPE_MEDIA_QUOTED": "true"}


def reply(raw_id: str, quoted: str, url: str | None, *, chat: str = CHAT, **payload: Any) -> Record:
    """A text that quotes a picture, as NOWEB tells it since 2026.4.1."""
    return media_message(
        raw_id, None, chat=chat, hasMedia=False, media=None, body="Where is that?",
        _data={"message": {"extendedTextMessage": {"text": "Where is that?"}}},
        replyTo={
            "id": quoted, "participant": "5511988887777@c.us", "hasMedia": True,
            "media": {"url": url, "mimetype": "image/jpeg", "filename": None},
        },
        **payload,
    )  # fmt: skip


async def test_the_quoted_file_is_stored_as_the_quoted_messages(
    servers: Servers, files: Files, migrated_database: str
) -> None:
    """In a direct chat and in a group; the message itself, when it comes from history, finds it there."""
    database = await emptied(servers, migrated_database)
    group = "120363041234567890@g.us"
    environment = await media_environment(servers, files, database)
    async with open_desk(environment | _ON) as desk, downloading(desk):
        await desk.told(
            reply("A", "Q", files.add("Q.jpeg", JPEG)),
            reply(
                "B",
                "G",
                files.add("G.jpeg", JPEG + b"G"),
                chat=group,
                id=f"false_{group}_B_77@lid",
                participant="77@lid",
            ),
        )
        jobs = await desk.settled()
        assert {name: (job["download_status"], job["message_id"]) for name, job in jobs.items()} == {
            "Q": ("stored", f"false_{CHAT}_Q"),
            "G": ("stored", f"false_{group}_G_5511988887777@c.us"),
        }
        await desk.told(
            media_message("Q", None),
            media_message(
                "G", None, chat=group, id=f"false_{group}_G_5511988887777@c.us", participant="5511988887777@c.us"
            ),
            reply("C", "Q", files.add("Q.jpeg", JPEG)),
        )
        again = await desk.settled()
        assert {name: job["sha256"] for name, job in again.items()} == {
            name: job["sha256"] for name, job in jobs.items()
        }
    assert files.asked == {"/api/files/default/Q.jpeg": 1, "/api/files/default/G.jpeg": 1}


async def test_a_reply_gives_the_message_that_lost_its_file_another_chance(
    servers: Servers, files: Files, migrated_database: str
) -> None:
    """WAHA downloads a quoted file anew: what was given up is taken up again."""
    database = await emptied(servers, migrated_database)
    environment = await media_environment(servers, files, database, WAPIPE_MEDIA_ASK_TIMES="1")
    async with open_desk(environment | _ON) as desk, downloading(desk):
        await desk.told(media_message("Q", "http://localhost:3000/api/files/default/gone.jpeg"))
        assert (await desk.settled())["Q"]["download_status"] == "expired"
        await desk.told(reply("A", "Q", files.add("Q.jpeg", JPEG)))
        assert (await desk.settled())["Q"]["download_status"] == "stored"


async def test_nothing_is_ordered_by_default_or_without_a_place(
    servers: Servers, files: Files, migrated_database: str
) -> None:
    database = await emptied(servers, migrated_database)
    environment = await media_environment(servers, files, database)
    async with open_desk(environment) as desk:
        await desk.told(reply("A", "Q", files.add("Q.jpeg", JPEG)))
        assert await desk.jobs() == {}
    async with open_desk(environment | _ON) as desk:
        await desk.told(reply("B", "Q", None))
        assert await desk.jobs() == {}
