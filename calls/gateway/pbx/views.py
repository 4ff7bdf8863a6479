"""What RustPBX asks and tells over HTTP. Nothing of a request is logged: it may hold credentials."""

import asyncio
import logging
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from calls.gateway import proxies, registry
from calls.gateway.pbx import answering, database, ending, later, spoken
from calls.gateway.pbx.first import first
from calls.gateway.pbx.question import Answer, Question, Stranger
from calls.gateway.pbx.watchdog import watchdog
from calls.models import EndReason, SessionState
from calls.recorder.writer import recorder

logger = logging.getLogger(__name__)

ANSWERED_WITHIN_S = 1.0  # RustPBX waits for 3 s, its caller in silence
OVERDUE_S = 1.0  # beyond the PBX's own bound
BEARER = "Bearer "
STRANGER = {"error": "expected the token of a PBX as a bearer header"}


@csrf_exempt
@require_POST
async def step(request: HttpRequest) -> JsonResponse:
    """Answer what is to be done with a call; 401 for a token that is nobody's."""
    return await _step(request)


@csrf_exempt
@require_POST
async def failed(request: HttpRequest) -> JsonResponse:
    """Answer what is to be done with a call as the answer before could not be begun."""
    return await _step(request, has_failed=True)


async def _step(request: HttpRequest, *, has_failed: bool = False) -> JsonResponse:
    question = Question(_token(request), request.body, _address(request), has_failed)
    if (promised := first.ticket(question)) is not None:
        pbx, ticket = promised
        first.store(ticket, _answered(question))
        return JsonResponse(answering.bridge(pbx, ticket, 1))
    try:
        answer = await _answer(question)
    except Stranger:
        return JsonResponse(STRANGER, status=401)
    first.asked()
    await _see_to(answer)
    return JsonResponse(answer.body)


async def _answered(question: Question) -> None:
    """Store what was answered already."""
    first.asked()
    await _see_to(await _answer(question))


async def _see_to(answer: Answer) -> None:
    """Do what is to be done besides telling it."""
    if answer.began is not None:
        recorder().start(answer.began)
    if answer.ended is not None:
        recorder().finish(answer.ended)
    if answer.unstored:
        store_later(answer.unstored)
    if answer.asked is not None:
        watchdog.forget(answer.asked)
    if answer.session is not None:
        within_s = answer.within_s + OVERDUE_S
        watchdog.expect(answer.session, answer.bridge, within_s, SessionState.BRIDGING)
    if answer.taken:
        await registry.end_parked(answer.taken, EndReason.TRANSFERRED)


async def _answer(question: Question) -> Answer:
    """The answer, within 2 s. What the database would still store of another one is undone."""
    work = asyncio.ensure_future(database.run(lambda: answering.answer(question)))
    try:
        done, _ = await asyncio.wait({work}, timeout=ANSWERED_WITHIN_S)
        if not done and not question.give_up():  # it is being stored at this moment
            done, _ = await asyncio.wait({work}, timeout=ANSWERED_WITHIN_S)
        if done:
            return work.result()
        why = "the database takes too long"
    except Stranger:
        raise
    except Exception as e:  # whatever ails us, the caller must hear something
        why = f"{type(e).__name__}: {e}"
    finally:
        work.cancel()
    question.give_up(settled_too=True)
    logger.error("a PBX's question could not be answered as it should: %s", why)
    return answering.without_database(question)


def store_later(key: str) -> None:
    """Store what was answered or decided without the database, when that can be done."""
    later.again(lambda: database.run(lambda: answering.store(key)), "where a telephone call stands")


@csrf_exempt
@require_POST
async def notice(request: HttpRequest) -> JsonResponse:
    """Take note of the beginning or end of steps, which say nothing of the call's.

    "end" is told when audio begins. Until "start" is answered the caller is in silence: nothing is touched.
    """
    return JsonResponse({})


@csrf_exempt
@require_POST
async def webhook(request: HttpRequest) -> JsonResponse:
    """Take what RustPBX tells of a call: its end, and by whom."""
    try:
        is_taken = await ending.told(_token(request), request.body, ANSWERED_WITHIN_S)
    except Stranger:
        return JsonResponse(STRANGER, status=401)
    return JsonResponse({}, status=HTTPStatus.OK if is_taken else HTTPStatus.SERVICE_UNAVAILABLE)


@require_safe
async def say(request: HttpRequest, name: str) -> HttpResponse:
    """Give out the WAV of a text that is spoken to callers who cannot be answered."""
    wav = await database.run(lambda: spoken.wav_named(name), database.SOUNDS)
    if wav is None:
        return HttpResponseNotFound()
    return HttpResponse(wav, content_type="audio/wav")


def _address(request: HttpRequest) -> str:
    scope = getattr(request, "scope", None)  # of every ASGI request
    return proxies.client_address(scope) if scope else ""


def _token(request: HttpRequest) -> str:
    header = request.headers.get("Authorization", "")
    return header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER.lower() else ""
