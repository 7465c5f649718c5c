// The product on one screen: what one turn does, in the order a byte meets it.
#include <algorithm>

#include "libtto/stack/stack_impl.hh"

namespace tto::stack {
namespace {

constexpr Duration kReceivingFor = milliseconds(200);  // after its last payload a socket's window counts no longer
constexpr size_t kCompletionBatch = 32;
constexpr size_t kMaxCompletionsPerTurn = 1024;
constexpr size_t kMaxExpirationsPerTurn = 256;
constexpr size_t kMaxVisitsPerTurn = 512;
constexpr size_t kMaxResolvesPerTurn = 16;
constexpr size_t kMaxRelievedPerTurn = 32;
constexpr Duration kRefreshEvery = milliseconds(1);
constexpr Duration kRefreshBusyEvery = milliseconds(10);  // two system calls: a busy stack would feel them at p99

}  // namespace

size_t Stack::run_once(Instant now) {
  if (is_abandoned_) return 0;
  Impl& i = *impl_;
  i.has_more_work = false;
  i.let_observe(now);            // whether anybody records
  size_t work = i.receive(now);  // port -> device -> engine
  work += i.expire(now);         // time -> engine
  i.housekeep(now);              // routes and neighbours -> engine
  i.push(now);                   // engine -> export record -> device -> port; readiness -> application
  ++progress_count_;
  return work;
}

void Stack::push(Instant now) {
  if (!is_abandoned_) impl_->push(now);
}

void Stack::flush_acks(Instant now) {
  Impl& i = *impl_;
  if (is_abandoned_ || i.riding.empty()) return;
  while (IntrusiveNode* node = i.riding.first()) i.socket_at(node)->touch();
  i.acks_ride = false;
  i.push(now);
  i.acks_ride = true;
}

// Before anything is received: the frame that wakes an idle stack is to be seen too.
void Stack::Impl::let_observe(Instant now) {
  if (now - observed_at < kRefreshEvery && now >= observed_at) return;
  observed_at = now;
  port = &environment.observed_port(*binding.port, pool, now);
}

size_t Stack::Impl::receive(Instant now) {
  const size_t slices = device.pull_frames(*port, now, stack.config_.rx_burst_slices);
  device.expire(now);
  // An eighth for what has no window: acknowledgements, retransmissions, frames of others.
  shared.promisable_frames = static_cast<uint32_t>(std::min(device.ready_frames(), fill_capacity) * 7 / 8);
  device::ReceiveCompletion batch[kCompletionBatch];
  size_t polled = 0;
  while (polled < kMaxCompletionsPerTurn) {
    const size_t n = device.poll(batch);
    for (size_t k = 0; k < n; ++k) on_completion(batch[k], now);
    polled += n;
    if (n < kCompletionBatch) break;
  }
  if (slices >= stack.config_.rx_burst_slices || polled >= kMaxCompletionsPerTurn) has_more_work = true;
  return slices + polled;
}

size_t Stack::Impl::expire(Instant now) {
  size_t expired = 0;
  while (expired < kMaxExpirationsPerTurn) {
    TimerWheel::Timer* timer = wheel.take_expired(now);
    if (timer == nullptr) return expired;
    ++expired;
    if (timer->socket->phase_ == Phase::kDeparted) {
      free_socket(*timer->socket);
      continue;
    }
    timer->socket->connection().on_deadline(now);
    after_change(*timer->socket, now);
  }
  has_more_work = true;
  return expired;
}

void Stack::Impl::push(Instant now) {
  bool port_has_room = true;
  for (size_t visits = 0; port_has_room && visits < kMaxVisitsPerTurn; ++visits) {
    IntrusiveNode* node = shared.dirty.pop_front();
    if (node == nullptr) break;
    Socket& s = *socket_at(node);
    port_has_room = emit(s, now);
    s.count_promise();
    commit(s, now);  // before any acknowledgement of what it records can leave
    if (port_has_room) {
      to_publish.push_back(*node);
    } else {
      shared.dirty.push_back(*node);
    }
  }
  const size_t sent = device.push_frames(*port, now);
  port->kick(false);
  has_more_work = has_more_work || (!shared.dirty.empty() && port_has_room) || (sent > 0 && device.has_work_queued());
  while (IntrusiveNode* node = to_publish.pop_front()) {
    Socket& s = *socket_at(node);
    settle(s, now);
    if (s.is_riding_) riding.push_back(s.dirty_link_);
  }
  free_retired();
  if (waiters.progress_thread_leads) waiters.note_deadline(next_deadline());
}

/// What ends a sleep may be news, and stays readable until it is taken.
void Stack::Impl::ask_for_news(Instant now) {
  const Duration since = now - refreshed_at;
  const bool may_be_news = has_slept || environment.next_event() <= now;
  if (!may_be_news && since < kRefreshBusyEvery && since >= Duration{}) return;
  refreshed_at = now;
  has_slept = false;
  environment.refresh(now);
}

void Stack::Impl::housekeep(Instant now) {
  if (now - housekept_at >= kRefreshEvery || now < housekept_at) {
    housekept_at = now;
    ask_for_news(now);
    while (IntrusiveNode* node = shared.receiving.first()) {
      if (now - socket_at(node)->payload_at_ < kReceivingFor) break;
      socket_at(node)->stop_receiving();
    }
    if (const uint64_t generation = environment.generation(); generation != seen_generation) {
      seen_generation = generation;
      resolve_cursor = 0;
    }
  }
  for (size_t n = 0; resolve_cursor < sockets.capacity() && n < kMaxResolvesPerTurn; ++resolve_cursor) {
    Socket* s = sockets.find(resolve_cursor);
    if (s == nullptr || s->phase_ == Phase::kFree || s->phase_ == Phase::kDeparted) continue;
    resolve_again(*s, now);
    ++n;
  }
  if (pool.free_count() * 8 < pool.frame_count()) return;
  for (size_t n = 0; n < kMaxRelievedPerTurn; ++n) {
    IntrusiveNode* node = shared.starved.pop_front();
    if (node == nullptr) break;
    Socket& s = *socket_at(node);
    s.relieve_memory();
    s.touch();
  }
}

Instant Stack::Impl::next_deadline() {
  if (has_more_work) return {};
  Instant at = std::min({wheel.next(), device.next_deadline(), port->next_event()});
  // A full transmit ring and starved sockets have no event of their own: look again soon.
  if (!shared.dirty.empty() || device.has_work_queued() || !shared.starved.empty() || !retired.empty()) {
    at = std::min(at, housekept_at + kRefreshEvery);
  }
  if (const Instant due = environment.next_event(); due != kNever) {
    at = std::min(at, std::max(due, housekept_at + kRefreshEvery));
  }
  if (resolve_cursor < sockets.capacity()) at = std::min(at, housekept_at);
  return at;
}

Instant Stack::next_deadline() const { return impl_->next_deadline(); }

}  // namespace tto::stack
