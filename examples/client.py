"""Prints every change of some stores. After an interruption it continues exactly where it was.

pip install websockets
python client.py http://127.0.0.1:8000 TOKEN readings

It implements Socket.IO itself, in a few lines: https://socket.io/docs/v4/socket-io-protocol/
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url, token, *stores):
    watched = [{"store": store, "channel": None, "position": None} for store in stores]
    address = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    async for socket in connect(address, max_size=None, ping_interval=None):  # reconnects forever
        try:
            await follow(socket, token, watched)
        except (ConnectionClosed, TimeoutError):
            continue


async def follow(socket, token, watched):
    opened = json.loads((await socket.recv())[1:])
    patience = (opened["pingInterval"] + opened["pingTimeout"]) / 1000
    await socket.send("40" + json.dumps({"token": token}))
    while True:
        packet = await asyncio.wait_for(socket.recv(), patience)
        if packet == "2":
            await socket.send("3")  # the heartbeat
        elif packet.startswith("40"):
            for watch in watched:
                watch["channel"] = None
            for number in range(len(watched)):
                await subscribe(socket, watched, number)
        elif packet.startswith("43"):
            number, _, answer = packet[2:].partition("[")
            await subscribed(socket, watched, int(number), json.loads(answer[:-1]))
        elif packet.startswith("42"):
            await heard(socket, watched, *json.loads(packet[2:]))
        elif packet.startswith("44"):
            message = json.loads(packet[2:])["message"]
            if message == "Unauthorized":
                sys.exit(f"refused {message}")
            await asyncio.sleep(1)
            return


async def subscribe(socket, watched, number):
    """`since`: only changes after that position. "auto": a fresh list instead if these are no longer known."""
    watch = watched[number]
    request = {"store": watch["store"], "snapshot": "auto", "since": watch["position"]}
    await socket.send(f"42{number}" + json.dumps(["subscribe", request]))


async def subscribed(socket, watched, number, answer):
    watch = watched[number]
    if not answer["ok"]:
        await over("refused", socket, watched, number, answer["error"])
        return
    watch.update(channel=answer["channel"], position=answer["position"])
    if "entities" in answer:
        say("resync" if answer.get("resync") else "snapshot", watch["store"], json.dumps(answer["entities"]))


async def over(word, socket, watched, number, error):
    """410: changes were missed or the store was redefined, so subscribe anew. 503: the database is unavailable: retry.
    Otherwise the store was deleted, or reading it is no longer allowed.
    """
    watch = watched[number]
    say(word, watch["store"], error["message"], json.dumps(error["errors"]) if "errors" in error else "")
    watch["channel"] = None
    if error["code"] == "410":
        watch["position"] = None
    if error["code"] in ("410", "503"):
        await asyncio.sleep(1)
        await subscribe(socket, watched, number)


async def heard(socket, watched, event, data):
    if event == "position":  # the connection has reached it; counts for all subscriptions
        for watch in watched:
            watch["position"] = data["position"] if watch["channel"] else watch["position"]
    elif event == "notice":  # expired, revoked, lagging or shutdown
        say("notice", data["kind"])
    elif event in ("change", "ended"):
        number = next((n for n, watch in enumerate(watched) if watch["channel"] == data["channel"]), None)
        if number is None:
            return  # an event of an earlier subscription
        if event == "ended":
            await over("ended", socket, watched, number, data["error"])
            return
        say(data["op"], data["store"], data["_id"], json.dumps(data["entity"]) if "entity" in data else "")
        watched[number]["position"] = data["position"]


def say(*words):
    print(*words, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
