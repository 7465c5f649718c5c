#include "libtto/socket/listen_socket.hh"

#include <sys/epoll.h>

#include <climits>

#include "libtto/socket/stream_socket.hh"

namespace tto::socket {
namespace {

constexpr uint32_t kAcceptReady = EPOLLIN | EPOLLRDNORM;

StreamSocket* socket_of(IntrusiveNode* node) {
  return node == nullptr ? nullptr : static_cast<SocketLink*>(node)->socket;
}

}  // namespace

StreamSocket* ListenSocket::accept() {
  StreamSocket* child = first_ready();
  if (child == nullptr) return nullptr;
  remove(*child);
  child->listener_ = nullptr;
  child->phase_ = StreamSocket::Phase::kOwned;
  return child;
}

void ListenSocket::set_backlog(int backlog) {
  backlog_ = backlog < 0 ? static_cast<uint32_t>(INT_MAX) : static_cast<uint32_t>(backlog);
}

void ListenSocket::add_half_open(StreamSocket& child) {
  child.phase_ = StreamSocket::Phase::kHalfOpen;
  child.listener_ = this;
  half_open_.push_back(child.queue_link_);
  ++half_open_count_;
}

void ListenSocket::make_ready(StreamSocket& child) {
  child.phase_ = StreamSocket::Phase::kAcceptable;
  ready_.push_back(child.queue_link_);
  --half_open_count_;
  ++ready_count_;
  readiness_.update(kAcceptReady, kAcceptReady);
}

void ListenSocket::remove(StreamSocket& child) {
  child.queue_link_.unlink();
  if (child.phase_ == StreamSocket::Phase::kHalfOpen) {
    --half_open_count_;
  } else {
    --ready_count_;
    if (ready_count_ == 0) readiness_.update(0, 0);
  }
}

StreamSocket* ListenSocket::oldest_half_open() { return socket_of(half_open_.first()); }
StreamSocket* ListenSocket::first_ready() { return socket_of(ready_.first()); }

}  // namespace tto::socket
