"""The people, groups, texts and files of made-up traffic, all drawn from the caller's random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from producers.simulator.facts import MEDIA_KINDS, Account, Chat, Content, Engine, Kind, Person

_NAMES = (
    "Ana 🦊", "Bruno Lima", "Chloé", "Dmitri", "Élise Martin", "Fatima الزهراء", "Gönül", "Hiro 山田",
    "Ingrid Sørensen", "João Pedro", "Kofi", "李雷", "María José", "Nguyễn Văn An", "Олена", "Priya शर्मा",
    "Quentin", "Rosa 🌹", "שרה", "Tomáš",
)  # fmt: skip
_TEXTS = (
    "Olá 👋 tudo bem?", "Guten Tag, ist die Ware schon da?", "Ok 👍", "Can you send me the invoice again?",
    "Chego em 10 minutos 🚗", "مرحبا، كم السعر؟", "你好，我想预约明天下午", "שלום, מתי אתם פתוחים?",
    "Danke schön! 🙏🏽", "Line one\nline two\n\tindented \"quoted\" \\ back",
    "Прайс-лист пришлите, пожалуйста", "see https://example.com/offer?id=7&x=1",
    "👩‍💻👨‍👩‍👧‍👦🏳️‍🌈", "Ça marche, à demain !", "*bold* _italic_ ~gone~", "O pedido #4711 ainda não chegou…",
    "はい、お願いします",
    "Perfect, thank you very much. I will ask my colleague and come back to you before the weekend.",
)  # fmt: skip
_CAPTIONS = ("Foto 📷", "Rechnung anbei", None, None, "olha isso 😂", None)
_SUBJECTS = (
    "Team 🚀",
    "Família ❤️",
    "Support night shift",
    "Fußball am Dienstag",
    "Condomínio Bloco B",
    "项目组",
)
_FILES = ("Rechnung Nr. 7 – März.pdf", "boleto.pdf", "报价单.pdf", "contract (signed).pdf")
_PLACES = (
    ("Praça da Sé", -23.5505, -46.6333),
    ("Alexanderplatz", 52.5219, 13.4132),
    ("Τεχνόπολις", 37.9779, 23.7133),
)
_POLLS = (("Lunch?", ("Pizza 🍕", "Sushi", "Salat")), ("Quando?", ("segunda", "terça", "quarta")))
_COUNTRIES = ("5511", "49151", "4477", "1415", "9725", "9198", "8190")
REACTIONS = ("❤️", "👍🏽", "😂", "🙏", "😮", "🔥")
LABELS = ("Lead 🔥", "Paid", "Follow up", "VIP")

_MEDIA_WEIGHTS = (45, 10, 25, 3, 12, 5)  # of MEDIA_KINDS, roughly what a support inbox sees
_RARE: tuple[Kind, ...] = ("location", "live_location", "vcard", "poll")
_EVENT_START_S = 1_786_183_200  # 2026-08-08T10:00:00Z
ANSWERS = ("GOING", "NOT_GOING", "MAYBE")
_EVENTS = ("Sommerfest 🎉", "Reunião de pais", "Release party")
_RARE_SHARE = 0.06  # of messages without a file


@dataclass(frozen=True, slots=True)
class Inbox:
    """One session and its chats, the lively ones first."""

    account: Account
    chats: tuple[Chat, ...]


def inbox(rng: Random, engine: Engine, name: str, *, chats: int, groups: float, lid: float, base_url: str) -> Inbox:
    """A session with `chats` chats, of which a share are groups and a share address people by hidden ids."""
    me = Person(f"49151{rng.randrange(10**8):08d}", f"{rng.randrange(10**14, 10**15)}", "Acme Support")
    metadata = {"tenant": "demo"} if rng.random() < 0.5 else None
    account = Account(name, engine, me, rng.randrange(1, 90), metadata, base_url=base_url)
    people = [person(rng) for _ in range(max(4, min(chats * 2, 400)))]
    group_count = round(chats * groups)
    made = [_group(rng, people, rng.random() < lid) for _ in range(group_count)]
    made += [Chat(lid=rng.random() < lid, peer=person(rng)) for _ in range(chats - group_count)]
    rng.shuffle(made)
    return Inbox(account, tuple(made))


def person(rng: Random) -> Person:
    """Somebody."""
    number = f"{rng.choice(_COUNTRIES)}{rng.randrange(10**8):08d}"
    return Person(number, f"{rng.randrange(10**14, 10**15)}", rng.choice(_NAMES))


def raw_id(rng: Random, *, web: bool) -> str:
    """A message id: 20 characters 3EB0… from web and API, 32 characters AC… from phones."""
    return f"3EB0{rng.getrandbits(64):016X}" if web else f"AC{rng.getrandbits(120):030X}"


def text(rng: Random) -> str:
    """Something people write."""
    return rng.choice(_TEXTS)


def content(rng: Random, media_share: float, engine: Engine) -> Content:
    """What a new message holds."""
    if rng.random() < media_share:
        return _file(rng)
    if rng.random() >= _RARE_SHARE:
        return Content(text=text(rng))
    kind = rng.choice((*_RARE, "event") if engine == "GOWS" else _RARE)
    if kind == "event":
        return Content(kind, rng.choice(_EVENTS), start_s=_EVENT_START_S)
    if kind == "poll":
        question, options = rng.choice(_POLLS)
        return Content(kind, question, options=options)
    if kind == "vcard":
        cards = tuple(_vcard(person(rng)) for _ in range(rng.choice((1, 1, 2))))
        return Content(kind, vcards=cards)
    name, latitude, longitude = rng.choice(_PLACES)
    return Content(kind, latitude=latitude, longitude=longitude, place=name)


def _file(rng: Random) -> Content:
    kind = rng.choices(MEDIA_KINDS, _MEDIA_WEIGHTS)[0]
    if kind == "document":
        return Content(kind, rng.choice(_CAPTIONS), rng.choice(_FILES))
    return Content(kind, rng.choice(_CAPTIONS) if kind in ("image", "video") else None)


def _group(rng: Random, people: list[Person], lid: bool) -> Chat:
    members = tuple(rng.sample(people, min(len(people), rng.randrange(3, 9))))
    number = f"12036304{rng.randrange(10**10):010d}"
    return Chat(lid=lid, group=number, subject=rng.choice(_SUBJECTS), members=members)


def _vcard(who: Person) -> str:
    phone = f"TEL;type=CELL;waid={who.number}:+{who.number}"
    return f"BEGIN:VCARD\nVERSION:3.0\nN:;{who.name};;;\nFN:{who.name}\n{phone}\nEND:VCARD"
