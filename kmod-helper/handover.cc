#include "kmod-helper/handover.hh"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "kmod-helper/inject.hh"
#include "kmod-helper/log.hh"

namespace ttod {
namespace {

constexpr size_t kMostDone = 65536;
constexpr uint32_t kPacketsPerHandover = 8192;  // a window of 11 MiB in frames of 1500
constexpr uint32_t kBurst = 16384, kPacketsPerSecond = 20000;

tto::wire::FourTuple tuple_of(const tto_helper_flow& flow) {
  tto::wire::FourTuple tuple;
  std::memcpy(tuple.local.bytes.data(), flow.local, 16);
  std::memcpy(tuple.remote.bytes.data(), flow.remote, 16);
  tuple.local_port = flow.local_port;
  tuple.remote_port = flow.remote_port;
  return tuple;
}

uint64_t cookie_of(const Fd& socket) {
  uint64_t cookie = 0;
  socklen_t bytes = sizeof cookie;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0 ? cookie : 0;
}

size_t count_of(const std::map<uint32_t, size_t>& counts, uint32_t key) {
  const auto at = counts.find(key);
  return at == counts.end() ? 0 : at->second;
}

void count_down(std::map<uint32_t, size_t>& counts, uint32_t key) {
  const auto at = counts.find(key);
  if (at != counts.end() && --at->second == 0) counts.erase(at);
}

}  // namespace

std::optional<uint64_t> Handovers::begin(const WorkOwner& worker, const LeaseOwner& owner, ServedNamespace& netns,
                                         const tto_helper_handover& request, Fd socket, Answer answer,
                                         tto_helper_refusal& refusal) {
  refusal = TTO_REFUSED_LIMIT;
  if (count_of(open_of_session_, owner.session) >= kOpenPerSession ||
      count_of(open_of_user_, owner.uid) >= kOpenPerUser)
    return std::nullopt;
  refusal = TTO_REFUSED_NOT_OWNER;
  if (!leases_.has_flow(owner, netns, request.item)) return std::nullopt;
  const uint64_t id = next_id_++;
  Handover handover{owner,
                    &netns,
                    request.item,
                    {tuple_of(request.item.flow), request.item.flow.ifindex},
                    cookie_of(socket),
                    std::make_shared<Socket>(),
                    State::kRestoring,
                    {},
                    kPacketsPerHandover};
  handover.socket->fd = std::move(socket);
  handover.socket->target = handover.target;
  const std::shared_ptr<Socket> work = handover.socket;
  const auto result = std::make_shared<tto_helper_refusal>(TTO_REFUSED_NONE);
  handovers_.emplace(id, std::move(handover));
  ++open_of_session_[owner.session];
  ++open_of_user_[owner.uid];
  pool_.submit(
      worker,
      [work, result, restore = request.restore] {
        *result = restore_socket(work->fd.get(), work->target, restore, work->memory);
        work->is_in_repair = *result == TTO_REFUSED_NONE;
      },
      [this, id, result, answer = std::move(answer)] {
        on_restored(id, *result);
        answer({*result, id});
      });
  refusal = TTO_REFUSED_NONE;
  return id;
}

void Handovers::on_restored(uint64_t id, tto_helper_refusal refusal) {
  const auto at = handovers_.find(id);
  if (at == handovers_.end()) return;
  if (refusal != TTO_REFUSED_NONE) {
    forget(at);
    return;
  }
  at->second.state = State::kOpen;
  at->second.deadline = Clock::now() + kOpenFor;
}

tto_helper_refusal Handovers::end(const WorkOwner& worker, uint64_t id, uint32_t flags, Answer answer) {
  const auto at = handovers_.find(id);
  if (at == handovers_.end() || at->second.owner.session != worker.session || at->second.state != State::kOpen)
    return TTO_REFUSED_NOT_OWNER;
  at->second.state = State::kEnding;
  const bool is_cancel = (flags & TTO_HANDOVER_CANCEL) != 0;
  const std::shared_ptr<Socket> work = at->second.socket;
  const auto result = std::make_shared<tto_helper_refusal>(TTO_REFUSED_NONE);
  pool_.submit(
      worker,
      [work, result, flags, is_cancel] {
        if (is_cancel) {
          abandon_socket(work->fd.get(), work->target, work->memory);
        } else {
          *result = finish_socket(work->fd.get(), work->target, flags, work->memory);
        }
        work->is_in_repair = false;
        if (!is_cancel) ::close(work->fd.release());  // the client's close() must be the last
      },
      [this, id, result, is_cancel, answer = std::move(answer)] {
        if (const auto ended = handovers_.find(id); is_cancel && ended != handovers_.end()) forget(ended);
        on_finished(id, *result);
        answer({*result, id});
      });
  return TTO_REFUSED_NONE;
}

void Handovers::on_finished(uint64_t id, tto_helper_refusal refusal) {
  const auto at = handovers_.find(id);
  if (at == handovers_.end()) return;
  if (refusal != TTO_REFUSED_NONE) {
    forget(at);
    return;
  }
  // The socket is live by now: the kernel never sees a segment of a connection it does not have.
  Handover& handover = at->second;
  leases_.release_flow(handover.owner, *handover.netns, handover.item);
  count_down(open_of_session_, handover.owner.session);
  count_down(open_of_user_, handover.owner.uid);
  handover.socket.reset();
  handover.state = State::kDone;
  handover.deadline = Clock::now() + kInjectableFor;
  ++counts_.handed_over;
  done_.push_back(id);
  while (done_.size() > kMostDone) {
    handovers_.erase(done_.front());
    done_.pop_front();
  }
}

Handovers::Map::iterator Handovers::forget(Map::iterator at) {
  if (at->second.state != State::kDone) {
    count_down(open_of_session_, at->second.owner.session);
    count_down(open_of_user_, at->second.owner.uid);
  }
  return handovers_.erase(at);
}

/// Its client may hold the socket open (in a child, say): without this it would stay in repair mode.
void Handovers::abandon(const Handover& handover) {
  pool_.submit(
      {handover.owner.uid, handover.owner.pid, 0},
      [work = handover.socket] {
        if (work->is_in_repair) abandon_socket(work->fd.get(), work->target, work->memory);
      },
      [] {});
}

void Handovers::release_all(uint32_t session) {
  rates_.erase(session);
  for (auto at = handovers_.begin(); at != handovers_.end();) {
    if (at->second.owner.session != session) {
      ++at;
      continue;
    }
    if (at->second.state == State::kRestoring || at->second.state == State::kOpen) abandon(at->second);
    at = forget(at);
  }
}

void Handovers::expire(Clock::time_point now) {
  while (!done_.empty()) {
    const auto at = handovers_.find(done_.front());
    if (at != handovers_.end() && at->second.deadline > now) break;
    if (at != handovers_.end()) handovers_.erase(at);
    done_.pop_front();
  }
  for (auto at = handovers_.begin(); at != handovers_.end();) {
    if (at->second.state != State::kOpen || at->second.deadline > now) {
      ++at;
      continue;
    }
    LOG_LIMITED(kNotice, "uid %u: a handover was begun and not ended in time", at->second.owner.uid);
    abandon(at->second);
    at = forget(at);
  }
}

bool Handovers::has_token(uint32_t session) {
  Rate& rate = rates_[session];
  const Clock::time_point now = Clock::now();
  if (rate.filled == Clock::time_point{}) {
    rate = {now, kBurst};
  } else {
    const int64_t passed = std::chrono::duration_cast<std::chrono::microseconds>(now - rate.filled).count();
    const auto earned = static_cast<uint64_t>(passed) * kPacketsPerSecond / 1'000'000;
    if (earned > 0) rate = {now, static_cast<uint32_t>(std::min<uint64_t>(kBurst, rate.tokens + earned))};
  }
  if (rate.tokens == 0) return false;
  --rate.tokens;
  return true;
}

bool Handovers::may_inject(Handover& handover, std::span<uint8_t> packet) {
  if (handover.state != State::kDone || Clock::now() > handover.deadline || handover.packets_left == 0) return false;
  if (!make_injectable(packet, handover.target.tuple)) return false;
  // The tuple may be somebody else's connection by now.
  const auto [is_known, cookie] = handover.netns->kernel_socket(handover.target.tuple, handover.target.ifindex);
  return is_known && cookie == handover.cookie;
}

void Handovers::inject(uint32_t session, uint64_t id, std::span<uint8_t> packet) {
  const auto at = handovers_.find(id);
  if (at == handovers_.end() || at->second.owner.session != session || !has_token(session) ||
      !may_inject(at->second, packet)) {
    ++counts_.inject_refused;
    LOG_LIMITED(kInfo, "session %u: a packet is not injected (%llu so far)", session,
                static_cast<unsigned long long>(counts_.inject_refused));
    return;
  }
  Handover& handover = at->second;
  --handover.packets_left;
  const int status = handover.netns->injector().send(packet, handover.target.tuple, handover.target.ifindex);
  if (status == 0) {
    ++counts_.injected;
    return;
  }
  ++counts_.inject_refused;
  LOG_LIMITED(kWarning, "cannot inject a packet: errno %d (is lo up?)", status);
}

}  // namespace ttod
