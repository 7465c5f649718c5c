#include "libtto/stack/kernel_handover.hh"

#include <linux/tcp.h>

#include "libtto/base/sys.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/runtime.hh"
#include "libtto/stack/runtime_state.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {
namespace {

constexpr int kTcp = 6;  // IPPROTO_TCP; netinet/in.h and linux/tcp.h do not go together everywhere
constexpr int kNoQueue = 0;
// Room was asked for; a socket that does not take its bytes by then is broken.
constexpr Duration kSendPatience = seconds(2);
constexpr Duration kFinPatience = milliseconds(50);

/// The vector behind its first `done` bytes.
void advance(iovec*& pieces, int& count, size_t done) {
  while (count > 0 && done >= pieces->iov_len) {
    done -= pieces->iov_len;
    ++pieces;
    --count;
  }
  if (count > 0) *pieces = {static_cast<char*>(pieces->iov_base) + done, pieces->iov_len - done};
}

/// Sends all; `when_full()` waits for room, false: give up.
template <typename WhenFull>
bool send_all(int fd, const iovec* pieces, int count, WhenFull when_full) {
  constexpr int kMax = 64;
  iovec left[kMax];
  if (count > kMax) return false;
  for (int i = 0; i < count; ++i) left[i] = pieces[i];
  iovec* at = left;
  while (count > 0) {
    msghdr message{};
    message.msg_iov = at;
    message.msg_iovlen = static_cast<size_t>(count);
    const ssize_t n = sys::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == -EINTR) continue;
    if (n == -EAGAIN && when_full()) continue;
    if (n < 0) return false;
    advance(at, count, static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

uint64_t KernelTarget::begin(const tto_helper_release_item& flow, const tto_helper_restore& restore) {
  helper_.flush();  // releases first, as always: what they free may be in the way
  const control::HandoverRequest request{flow, restore, fd_};
  control::HandoverAnswer answer;
  return helper_.handover({&request, 1}, {&answer, 1}) ? answer.handover_id : 0;
}

bool KernelTarget::restore(Queue queue, const iovec* pieces, int count) {
  const int number = static_cast<int>(queue);
  if (sys::setsockopt(fd_, kTcp, TCP_REPAIR_QUEUE, &number, sizeof number) != 0) return false;
  return send_all(fd_, pieces, count, [] { return false; });
}

bool KernelTarget::restore_window(const RepairWindow& window) {
  static_assert(sizeof(RepairWindow) == sizeof(tcp_repair_window), "the kernel's layout");
  return sys::setsockopt(fd_, kTcp, TCP_REPAIR_WINDOW, &window, sizeof window) == 0 &&
         sys::setsockopt(fd_, kTcp, TCP_REPAIR_QUEUE, &kNoQueue, sizeof kNoQueue) == 0;
}

bool KernelTarget::restore_fin() {
  const int number = static_cast<int>(Queue::kSent);
  return sys::setsockopt(fd_, kTcp, TCP_REPAIR_QUEUE, &number, sizeof number) == 0 && sys::shutdown(fd_, SHUT_WR) == 0 &&
         sys::setsockopt(fd_, kTcp, TCP_REPAIR_QUEUE, &kNoQueue, sizeof kNoQueue) == 0;
}

void KernelTarget::cancel(uint64_t id) {
  const control::HandoverEnd end{id, TTO_HANDOVER_CANCEL};
  tto_helper_refusal answer;
  (void)helper_.handover_end({&end, 1}, {&answer, 1});
}

bool KernelTarget::end(uint64_t id, bool is_silent) {
  const control::HandoverEnd end{id, is_silent ? uint32_t{TTO_HANDOVER_NO_PROBE} : 0u};
  tto_helper_refusal answer;
  return helper_.handover_end({&end, 1}, {&answer, 1}) && answer == TTO_REFUSED_NONE;
}

bool KernelTarget::send(const iovec* pieces, int count) {
  const Instant until = read_clock() + kSendPatience;
  const bool is_sent = send_all(fd_, pieces, count, [&] {
    if (read_clock() >= until) return false;
    pollfd fd{fd_, POLLOUT, 0};
    timespec tick{0, 50'000'000};
    return sys::ppoll(&fd, 1, &tick, nullptr) >= 0;
  });
  if (is_sent) return true;
  // A stream with a hole must not look like one that ended.
  const sockaddr nobody{AF_UNSPEC, {}};
  sys::connect(fd_, &nobody, sizeof nobody);
  return false;
}

void KernelTarget::shut(int how) { sys::shutdown(fd_, how); }

void KernelTarget::await_fin() {
  constexpr uint8_t kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5;  // TCP_* of the kernel
  const Instant until = read_clock() + kFinPatience;
  while (read_clock() < until) {
    uint8_t state = 0;  // the first byte of struct tcp_info
    socklen_t bytes = sizeof state;
    if (sys::getsockopt(fd_, kTcp, TCP_INFO, &state, &bytes) != 0) return;
    if (state != kEstablished && state != kFinWait1 && state != kFinWait2) return;
    timespec nap{0, 20'000};
    sys::ppoll(nullptr, 0, &nap, nullptr);
  }
}

// --- the runtime's part ----------------------------------------------------------------------------------------------

HandoverResult Runtime::hand_over(Stack& stack, socket::StreamSocket& stream, int placeholder, Instant now) {
  RunningStack* running = the_running_stack();
  if (running == nullptr || running->stack.get() != &stack) return HandoverResult::kRefused;
  if (!running->environment.helper.is_connected()) return HandoverResult::kRefused;
  KernelTarget target(running->environment.helper, placeholder);
  return stack.hand_over(stream, target, now);
}

bool Runtime::hand_over_orphan(Stack& stack, socket::StreamSocket& stream, Instant now) {
  const int family = stream.tuple().local.is_v4() ? AF_INET : AF_INET6;
  const int fd = sys::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const HandoverResult result = hand_over(stack, stream, fd, now);
  sys::close(fd);  // the kernel sends the rest and ends the connection
  return result == HandoverResult::kDone;
}

}  // namespace tto::stack
