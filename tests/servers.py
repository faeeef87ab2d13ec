"""Good and bad answers of a web server; the fixture `serve` takes these."""

import numpy as np

GOOD = np.random.default_rng(0).bytes(700_000)


def send(request, data, status=200, length=None, **headers):
    """Answer with `data`, regardless of the length in the headers, and record how much was sent."""
    request.send_response(status)
    for name, value in {"Content_Length": len(data) if length is None else length, **headers}.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()
    request.wfile.write(data)
    request.sent = len(data)


def body(data, length=None):
    """Answer with all of `data`, whatever part is requested."""
    return lambda request, over: send(request, data, length=length)


def ranged(data, most=None):
    """Answer with the requested part of `data`; with `most`, hang up after this number of bytes."""

    def answer(request, over):
        if "Range" not in request.headers:
            return send(request, data[:most], length=len(data))
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        part = {"status": 206, "Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return send(request, data[start:][:most], length=len(data) - start, **part)

    return answer


def partial_content(data, content_range=None, length=None):
    """Answer with `data` as if it were the part that `content_range` names."""
    headers = {"Content_Range": content_range} if content_range else {}
    return lambda request, over: send(request, data, 206, length, **headers)


def held(data, gate):
    """Send half of `data`, and the rest when `gate` opens."""

    def answer(request, over):
        send(request, data[: len(data) // 2], length=len(data))
        gate.wait(60)
        request.wfile.write(data[len(data) // 2 :])

    return answer


def redirect(place):
    def answer(request, over):
        request.send_response(302)
        request.send_header("Location", place)
        request.end_headers()

    return answer


def status(code):
    return lambda request, over: request.send_error(code)


def silence(request, over):
    over.wait(20)


def silence_in_the_middle(request, over):
    send(request, GOOD[:1000], length=len(GOOD))
    over.wait(20)


def trickle(request, over):
    send(request, b"", length=len(GOOD))
    for byte in GOOD[:200]:
        request.wfile.write(bytes([byte]))
        if over.wait(0.02):
            break


def body_of_unknown_length(data):
    def answer(request, over):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data)

    return answer


def endless(request, over):
    """Send zeros without announcing how many, until the client hangs up."""
    request.send_response(200)
    request.end_headers()
    request.sent = 0
    while not over.is_set():
        request.wfile.write(bytes(1 << 16))
        request.sent += 1 << 16


def chunked_and_cut(request, over):
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n" % 1000 + bytes(100))
