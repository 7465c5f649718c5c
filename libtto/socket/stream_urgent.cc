// StreamSocket: urgent data, and reading around it.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "libtto/socket/stream_socket.hh"

namespace tto::socket {

void StreamSocket::set_oob_inline(bool on) {
  oob_inline_ = on;
  touch();
}

bool StreamSocket::is_at_mark() const { return is_receiving_ && urgent_.is_at(receive_queue_.read_position()); }

bool StreamSocket::stops_at_mark(uint64_t ahead) const {
  return is_receiving_ && urgent_.is_at(receive_queue_.read_position() + ahead);
}

uint64_t StreamSocket::inq_bytes() const {
  const uint64_t all = readable_bytes();
  if (all == 0 || oob_inline_) return all;
  if (is_at_mark()) return 0;  // as in Linux, whatever follows
  if (!urgent_.is_after(receive_queue_.read_position())) return all;
  return std::min(all, urgent_.at() - receive_queue_.read_position());
}

bool StreamSocket::take_urgent_signal() {
  const bool due = urgent_signal_due_;
  urgent_signal_due_ = false;
  return due;
}

void StreamSocket::note_urgent(Instant now) {
  if (!is_receiving_) return;
  const StreamOffset mark = connection_.urgent_mark();
  // A second mark while the first one's byte is next to be read: that byte goes (as in Linux).
  const bool skips = mark != urgent_.at() && mark != 0 && !oob_inline_ && is_at_mark() && readable_bytes() > 0;
  if (skips && receive_queue_.discard(1, connection_.receive_end()) == 1) connection_.app_consumed(1, now);
  if (urgent_.announce(mark)) {
    urgent_signal_due_ = true;
    urgent_.on_read(receive_queue_.read_position());
  }
  if (urgent_.on_arrived(connection_.receive_end())) pending_events_ |= EPOLLPRI | EPOLLRDBAND | EPOLLIN | EPOLLRDNORM;
}

// Linux's tcp_recv_urg(): never blocks.
ssize_t StreamSocket::receive_urgent(const iovec* iov, int count, int flags) {
  if (oob_inline_ || urgent_.state() == UrgentByte::State::kNone || urgent_.state() == UrgentByte::State::kTaken) {
    return -EINVAL;
  }
  if (urgent_.state() == UrgentByte::State::kAnnounced) return receive_is_shut() ? 0 : -EAGAIN;
  std::byte byte{};
  if (!receive_queue_.peek_at(urgent_.at(), byte)) return -EINVAL;
  if ((flags & MSG_PEEK) == 0) {
    urgent_.on_taken();
    touch();
  }
  for (int i = 0; i < count; ++i) {
    if (iov[i].iov_len == 0) continue;
    if ((flags & MSG_TRUNC) == 0) *static_cast<std::byte*>(iov[i].iov_base) = byte;
    return 1;
  }
  return 0;
}

// Ordinary reading ends before the urgent byte and goes on behind it; SO_OOBINLINE keeps the byte in the stream.
uint64_t StreamSocket::read_stream(const iovec* iov, int count, size_t total, int flags, Instant now) {
  const bool peek = (flags & MSG_PEEK) != 0;
  StreamOffset position = receive_queue_.read_position(), end = connection_.receive_end();
  uint64_t skipped = 0;
  if (urgent_.is_at(position) && !oob_inline_) {
    skipped = 1;
    if (!peek) {
      receive_queue_.discard(1, end);
      connection_.app_consumed(1, now);
      touch();
    }
  } else if (urgent_.is_after(position)) {
    end = std::min(end, urgent_.at());
  }
  uint64_t taken;
  if ((flags & MSG_TRUNC) != 0) {
    taken = peek ? std::min<uint64_t>(total, end - position - skipped) : receive_queue_.discard(total, end);
  } else {
    taken = receive_queue_.read(iov, count, end, peek, peek ? skipped : 0);
  }
  if (!peek) urgent_.on_read(receive_queue_.read_position());
  return taken;
}

}  // namespace tto::socket
