"""An HTTP server that answers a PUT with the SHA-256 of its body."""
import hashlib
import http.server
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            block = self.rfile.read(min(left, 65536))
            if not block:
                raise ConnectionError("the body ended early")
            digest.update(block)
            left -= len(block)
        body = (digest.hexdigest() + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


Server(("::", int(sys.argv[1])), Handler).serve_forever()
