// Lines for people on standard error: "ttod: <what happened>". Under systemd they go to the journal with a priority.
#pragma once

#include <cstdint>

namespace ttod {

enum class LogLevel { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

void log_set_level(LogLevel level);
/// Every line carries its priority as "<5>" in front, which journald understands.
void log_set_journal(bool on);
[[gnu::format(printf, 2, 3)]] void log_line(LogLevel level, const char* format, ...);

#define LOG_ERROR(...) ::ttod::log_line(::ttod::LogLevel::kError, __VA_ARGS__)
#define LOG_WARNING(...) ::ttod::log_line(::ttod::LogLevel::kWarning, __VA_ARGS__)
#define LOG_NOTICE(...) ::ttod::log_line(::ttod::LogLevel::kNotice, __VA_ARGS__)
#define LOG_INFO(...) ::ttod::log_line(::ttod::LogLevel::kInfo, __VA_ARGS__)
#define LOG_DEBUG(...) ::ttod::log_line(::ttod::LogLevel::kDebug, __VA_ARGS__)

/// At most ten lines a second, and then how many were left out.
class LogLimit {
 public:
  bool allows();
  /// Since the last line that was allowed; forgets it.
  uint32_t take_left_out();

 private:
  int64_t second_ = -1;
  uint32_t lines_ = 0, left_out_ = 0;
};

/// For what a client can bring about: limited for each place in the code. On the loop's thread only.
#define LOG_LIMITED(level, format, ...)                                                            \
  do {                                                                                             \
    static ::ttod::LogLimit limit;                                                                 \
    if (!limit.allows()) break;                                                                    \
    if (const uint32_t left_out = limit.take_left_out(); left_out > 0)                             \
      ::ttod::log_line(::ttod::LogLevel::level, "%u lines like the next were left out", left_out); \
    ::ttod::log_line(::ttod::LogLevel::level, format, __VA_ARGS__);                                \
  } while (false)

}  // namespace ttod
