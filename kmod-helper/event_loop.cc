#include "kmod-helper/event_loop.hh"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace ttod {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll");
}

void EventLoop::watch(int fd, Handler handler) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  watches_[fd] = Watch{next_serial_++, std::move(handler)};
}

void EventLoop::forget(int fd) {
  if (watches_.erase(fd) > 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

int EventLoop::run_once(int timeout_ms) {
  std::array<epoll_event, 64> due;
  const int count = ::epoll_wait(epoll_.get(), due.data(), static_cast<int>(due.size()), timeout_ms);
  const uint64_t newest = next_serial_;
  for (int i = 0; i < count; ++i) {
    const auto at = watches_.find(due[static_cast<size_t>(i)].data.fd);
    // A handler before us may have closed this one and opened another with the same number.
    if (at == watches_.end() || at->second.serial >= newest) continue;
    const Handler handler = at->second.handler;
    handler(due[static_cast<size_t>(i)].events);
  }
  return count > 0 ? count : 0;
}

}  // namespace ttod
