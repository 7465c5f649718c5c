#include "libtto/socket/stream_socket.hh"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace tto::socket {
namespace {

constexpr uint32_t kReadable = EPOLLIN | EPOLLRDNORM;
constexpr uint32_t kWriteable = EPOLLOUT | EPOLLWRNORM;

size_t total_bytes(const iovec* iov, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += iov[i].iov_len;
  return total;
}

}  // namespace

StreamSocket::StreamSocket() {
  dirty_link_.socket = starved_link_.socket = receiving_link_.socket = queue_link_.socket = timer_.socket = this;
}

void StreamSocket::touch() {
  if (is_riding_) {
    is_riding_ = false;
    dirty_link_.unlink();
  }
  if (!dirty_link_.is_linked()) shared_->dirty.push_back(dirty_link_);
}

// --- sending -------------------------------------------------------------------------------------------------------

bool StreamSocket::send_is_shut() const { return send_shut_ || connection_.events().closed; }

uint64_t StreamSocket::send_space() const {
  const uint64_t queued = send_queue_.end() - send_queue_.begin();
  if (queued >= send_buffer_bytes_ || unsent_bytes() >= notsent_lowat_) return 0;
  return send_buffer_bytes_ - queued;
}

// Frames that this socket may still take: never more than are left for everyone, so that the first comer cannot have
// them all and a newcomer finds some.
uint64_t StreamSocket::frames_allowed() const {
  const uint32_t left = shared_->send_frames_limit - std::min(shared_->send_frames, shared_->send_frames_limit);
  const uint32_t own = send_queue_.frame_count();
  return own < left ? left - own : 0;
}

void StreamSocket::note_starved() {
  if (!starved_link_.is_linked()) shared_->starved.push_back(starved_link_);
}

void StreamSocket::count_send_frames(uint32_t before) {
  shared_->send_frames += send_queue_.frame_count() - before;
}

ssize_t StreamSocket::send(const iovec* iov, int count, int flags, Instant now) {
  if (is_connecting()) {
    if (const int error = take_error(); error != 0) return -error;
    return send_shut_ ? -EPIPE : -EAGAIN;
  }
  if (connection_.events().error != 0 || own_error_ != 0 || send_is_shut()) {
    const int error = take_error();
    return error != 0 ? -error : -EPIPE;
  }
  const size_t total = std::min<size_t>(total_bytes(iov, count), SSIZE_MAX);
  if (total == 0) return 0;
  const ssize_t taken = append(iov, count, total, (flags & MSG_MORE) != 0, now);
  if (taken > 0 && (flags & MSG_OOB) != 0) connection_.app_mark_urgent(now);
  return taken;
}

ssize_t StreamSocket::append(const iovec* iov, int count, size_t total, bool more, Instant now) {
  const uint32_t segment = std::max(connection_.effective_mss(), 1u);
  const uint64_t per_frame = std::min(segment, SendQueue::kFrameCapacity);
  const uint64_t space = std::min<uint64_t>(send_space(), total);
  const uint64_t limit = std::min(space, frames_allowed() * per_frame);
  uint64_t taken = 0;
  if (limit > 0) {
    const uint32_t before = send_queue_.frame_count();
    taken = send_queue_.append(iov, count, 0, limit, segment);
    count_send_frames(before);
  }
  if (taken < space) note_starved();
  if (taken < total) wants_space_ = true;
  if (taken == 0) return -EAGAIN;
  connection_.app_write(taken, more && taken == total, now);
  touch();
  return static_cast<ssize_t>(taken);
}

uint64_t StreamSocket::unsent_bytes() const {
  const StreamOffset end = send_queue_.end(), nxt = connection_.snd_nxt();
  return nxt < end ? end - nxt : 0;
}

uint64_t StreamSocket::unacked_bytes() const { return send_queue_.end() - send_queue_.begin(); }

// Linux grows the send buffer to twice the congestion window, so that a full window is always ready to leave.
void StreamSocket::tune_send_buffer() {
  if (send_buffer_locked_ || send_buffer_bytes_ >= send_buffer_max_) return;
  if (unacked_bytes() * 2 < send_buffer_bytes_) return;
  const uint64_t wanted = uint64_t{connection_.figures().cwnd_bytes} * 2;
  if (wanted > send_buffer_bytes_) {
    send_buffer_bytes_ = static_cast<uint32_t>(std::min<uint64_t>(wanted, send_buffer_max_));
  }
}

// --- receiving -----------------------------------------------------------------------------------------------------

bool StreamSocket::receive_is_shut() const {
  const tcp::Events events = connection_.events();
  return receive_shut_ || events.peer_closed || events.closed;
}

uint64_t StreamSocket::readable_bytes() const {
  if (!is_receiving_) return 0;
  const StreamOffset end = connection_.receive_end();
  return end > receive_queue_.read_position() ? end - receive_queue_.read_position() : 0;
}

ssize_t StreamSocket::receive(const iovec* iov, int count, int flags, Instant now) {
  if ((flags & MSG_OOB) != 0) return receive_urgent(iov, count, flags);
  const uint64_t available = readable_bytes();
  if (available == 0) return end_of_stream();
  const size_t total = std::min<size_t>(total_bytes(iov, count), SSIZE_MAX);
  const bool peek = (flags & MSG_PEEK) != 0;
  uint64_t taken;
  if (urgent_.state() != UrgentByte::State::kNone) {
    taken = read_stream(iov, count, total, flags, now);
    if (taken == 0 && total > 0) return end_of_stream();  // there was the urgent byte only
  } else if ((flags & MSG_TRUNC) != 0) {
    taken = peek ? std::min<uint64_t>(total, available) : receive_queue_.discard(total, connection_.receive_end());
  } else {
    taken = receive_queue_.read(iov, count, connection_.receive_end(), peek);
  }
  if (!peek && taken > 0) {
    connection_.app_consumed(taken, now);
    tune_receive_buffer(taken, now);
    relieve_memory();
    touch();
  }
  return static_cast<ssize_t>(taken);
}

ssize_t StreamSocket::end_of_stream() {
  const tcp::Events events = connection_.events();
  if (events.peer_closed) return 0;
  if (const int error = take_error(); error != 0) return -error;
  return receive_is_shut() ? 0 : -EAGAIN;
}

void StreamSocket::start_receiving(Instant now) {
  noticed_end_ = connection_.first_receive_byte();
  receive_queue_.init(shared_->pool, slot_, noticed_end_);
  is_receiving_ = true;
  note_receiving(0, 0, now);
}

void StreamSocket::take_payload(memory::FrameHandle head, StreamOffset first, ByteRange keep, Instant now) {
  const uint64_t bytes_before = receive_queue_.held_bytes();
  const uint32_t frames_before = receive_queue_.frame_count();
  receive_queue_.insert(head, first, keep);
  note_receiving(static_cast<uint32_t>(receive_queue_.held_bytes() - bytes_before),
                 receive_queue_.frame_count() - frames_before, now);
  relieve_memory();
}

// The buffer follows what the application takes in a round trip: twice that much may then be under way.
void StreamSocket::tune_receive_buffer(uint64_t taken, Instant now) {
  read_since_ += taken;
  if (receive_buffer_locked_ || receive_buffer_bytes_ >= receive_buffer_max_) return;
  const uint64_t wanted = read_since_ * 2 + 16 * uint64_t{connection_.effective_mss()};
  if (wanted <= receive_buffer_bytes_) {
    if (now - read_round_start_ < std::max(connection_.figures().srtt, microseconds(500))) return;
  } else if (shared_->pool->free_count() * 2 > shared_->pool->frame_count()) {
    receive_buffer_bytes_ = static_cast<uint32_t>(std::min<uint64_t>(wanted, receive_buffer_max_));
    connection_.set_receive_buffer(receive_buffer_bytes_);
  }
  read_since_ = 0;
  read_round_start_ = now;
}

// Frames are of one size, payloads are not. Collapsing is paid for by what must arrive before it happens again. When one
// socket holds more frames than are free, it announces less; the edge never moves left, so this only slows it down.
void StreamSocket::relieve_memory() {
  constexpr uint64_t kUnpressed = 64 * 1024;
  const size_t free = shared_->pool->free_count();
  const uint64_t true_size = receive_queue_.true_size_bytes();
  const bool is_sparse = true_size > 4 * receive_queue_.held_bytes();
  if (true_size > kUnpressed && (is_sparse || (receive_queue_.frame_count() > free && 
                                               true_size > 2 * receive_queue_.held_bytes()))) {
    receive_queue_.collapse();
  }
  const size_t own = receive_queue_.frame_count();
  const uint32_t overhead = own > free ? receive_buffer_bytes_ : own * 2 > free ? receive_buffer_bytes_ / 2 : 0;
  connection_.set_receive_overhead(overhead);
  if (overhead != 0) note_starved();
}

// --- life ----------------------------------------------------------------------------------------------------------

int StreamSocket::shutdown(int how, Instant now) {
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  pending_events_ |= kStateChanged;
  touch();
  if (is_connecting()) {
    connection_.app_abort(now);
    own_error_ = ECONNRESET;
    is_dissolved_ = true;
    return 0;
  }
  const bool was_closed = connection_.events().closed;
  if (how != SHUT_WR) receive_shut_ = true;
  if (how != SHUT_RD && !send_shut_) {
    send_shut_ = true;
    connection_.app_shutdown_write(now);
  }
  return was_closed ? -ENOTCONN : 0;
}

void StreamSocket::close_connection(Instant now) {
  if (close_begun_) return;
  close_begun_ = send_shut_ = receive_shut_ = true;
  connection_.app_close(readable_bytes() > 0, now);
  receive_queue_.clear();
  touch();
}

void StreamSocket::begin_close(Instant now) { close_connection(now); }

void StreamSocket::close(Instant now) {
  if (phase_ == Phase::kDeparted) return;
  close_connection(now);
  phase_ = Phase::kOrphan;
  fd_ = -1;
  touch();
}

void StreamSocket::abort(Instant now) {
  if (phase_ == Phase::kDeparted) return;
  connection_.app_abort(now);
  close_begun_ = send_shut_ = receive_shut_ = true;
  receive_queue_.clear();
  phase_ = Phase::kOrphan;
  fd_ = -1;
  touch();
}

bool StreamSocket::is_connecting() const {
  const tcp::State state = connection_.state();
  return state == tcp::State::kSynSent || state == tcp::State::kSynReceived;
}

bool StreamSocket::is_finished() const {
  return connection_.events().closed || connection_.fin_acked();
}

int StreamSocket::take_error() {
  if (own_error_ != 0) {
    const int error = own_error_;
    own_error_ = 0;
    return error;
  }
  return connection_.take_error();
}

void StreamSocket::clear_queues() {
  const uint32_t before = send_queue_.frame_count();
  send_queue_.clear();
  count_send_frames(before);
  receive_queue_.clear();
  stop_receiving();
}

// --- readiness -----------------------------------------------------------------------------------------------------

bool StreamSocket::is_readable() const {
  uint64_t available = readable_bytes();
  if (available != 0 && !oob_inline_ && is_at_mark()) --available;  // not an ordinary byte
  if (available == 0) return false;
  // Below the low-water mark, yet the window is used up: nothing more would come.
  return available >= receive_lowat_ || connection_.figures().rcv_wnd_bytes <= connection_.effective_mss();
}

// A third of the buffer is free: a writer that is woken finds room worth its while.
bool StreamSocket::is_writeable() const {
  const uint64_t queued = unacked_bytes();
  const uint64_t space = queued < send_buffer_bytes_ ? send_buffer_bytes_ - queued : 0;
  return space >= queued / 2 && space > 0 && unsent_bytes() < notsent_lowat_ && frames_allowed() > 0;
}

uint32_t StreamSocket::poll_level() const {
  if (is_dissolved_) return EPOLLHUP | kWriteable | (own_error_ != 0 ? EPOLLERR : 0u);
  const tcp::Events events = connection_.events();
  const bool receive_shut = receive_is_shut(), send_shut = send_is_shut();
  uint32_t level = 0;
  if ((receive_shut && send_shut) || events.closed) level |= EPOLLHUP;
  if (receive_shut) level |= kReadable | EPOLLRDHUP;
  if (!is_connecting()) {
    if (is_readable()) level |= kReadable;
    if (send_shut || is_writeable()) level |= kWriteable;
    if (urgent_.state() == UrgentByte::State::kHere) level |= EPOLLPRI;
  }
  if (events.error != 0 || own_error_ != 0) level |= EPOLLERR;
  return level;
}

void StreamSocket::note_progress(Instant now) {
  const uint32_t before = send_queue_.frame_count();
  send_queue_.acknowledge(connection_.snd_una());
  const tcp::Events events = connection_.events();
  if (events.closed && !was_closed_) send_queue_.clear();
  count_send_frames(before);
  if (send_queue_.frame_count() < before) tune_send_buffer();
  if (is_receiving_ && connection_.receive_end() != noticed_end_) {
    noticed_end_ = connection_.receive_end();
    if (is_readable()) pending_events_ |= kReadable;
  }
  if (connection_.urgent_mark() != 0) note_urgent(now);
  const bool has_error = events.error != 0 || own_error_ != 0;
  if (events.established != was_established_ || events.closed != was_closed_ ||
      events.peer_closed != was_peer_closed_ || (has_error && !had_error_)) {
    pending_events_ |= kStateChanged;
  }
  was_established_ = events.established;
  was_closed_ = events.closed;
  was_peer_closed_ = events.peer_closed;
  had_error_ = has_error;
}

void StreamSocket::publish() {
  const uint32_t level = poll_level();
  uint32_t happened = pending_events_ & ~kStateChanged;
  if ((pending_events_ & kStateChanged) != 0) happened |= level;
  pending_events_ = 0;
  if ((level & EPOLLOUT) == 0) {
    wants_space_ = true;
  } else if (wants_space_) {
    wants_space_ = false;
    happened |= kWriteable | EPOLLWRBAND;
  }
  readiness_.update(level, happened);
}

// --- options -------------------------------------------------------------------------------------------------------

void StreamSocket::set_send_buffer(uint32_t bytes) {
  send_buffer_bytes_ = bytes;
  send_buffer_locked_ = true;
  touch();
}

void StreamSocket::set_receive_buffer(uint32_t bytes) {
  receive_buffer_bytes_ = bytes;
  receive_buffer_locked_ = true;
  connection_.set_receive_buffer(bytes);
  touch();
}

void StreamSocket::set_notsent_lowat(uint32_t bytes) {
  notsent_lowat_ = bytes;
  touch();
}

void StreamSocket::set_receive_lowat(uint32_t bytes) {
  receive_lowat_ = std::max(bytes, 1u);
  touch();
}

void StreamSocket::set_linger(bool on, Duration time) {
  linger_on_ = on;
  linger_time_ = time;
}

void StreamSocket::set_tos(uint8_t tos) {
  path_.tos = tos;
  path_changed_ = true;
  touch();
}

void StreamSocket::set_ttl(uint8_t ttl) {
  path_.ttl = ttl;
  path_changed_ = true;
  touch();
}

void StreamSocket::init(SocketShared* shared, uint32_t slot) {
  shared_ = shared;
  slot_ = slot;
}

}  // namespace tto::socket
