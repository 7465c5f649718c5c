#include "kmod-helper/log.hh"

#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <utility>

namespace ttod {
namespace {
LogLevel g_level = LogLevel::kInfo;
bool g_journal = false;
}  // namespace

void log_set_level(LogLevel level) { g_level = level; }
void log_set_journal(bool on) { g_journal = on; }

void log_line(LogLevel level, const char* format, ...) {
  if (level > g_level) return;
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (g_journal) {
    std::fprintf(stderr, "<%d>%s\n", static_cast<int>(level), text);
    return;
  }
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  localtime_r(&now.tv_sec, &parts);
  const char* mark = level <= LogLevel::kError ? "error: " : level == LogLevel::kWarning ? "warning: " : "";
  std::fprintf(stderr, "%02d:%02d:%02d.%03ld ttod: %s%s\n", parts.tm_hour, parts.tm_min, parts.tm_sec,
               now.tv_nsec / 1'000'000, mark, text);
}

bool LogLimit::allows() {
  constexpr uint32_t kLinesPerSecond = 10;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (now.tv_sec != second_) {
    second_ = now.tv_sec;
    lines_ = 0;
  }
  if (lines_ == kLinesPerSecond) {
    ++left_out_;
    return false;
  }
  ++lines_;
  return true;
}

uint32_t LogLimit::take_left_out() { return std::exchange(left_out_, 0); }

}  // namespace ttod
