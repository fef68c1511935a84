// tests/support/gtest_subset/gtest/gtest.h
// SPDX-License-Identifier: Apache-2.0
//
// The part of GoogleTest's interface that the tests of CUDA kernels use, for minimal builds (TING_MINIMAL): machines
// with a GPU often have a compiler, CMake and CUDA, and no way to install anything. Everywhere else the tests use
// GoogleTest itself. Same names, same meaning, same words in the output; a test that needs more than this is not
// compiled. Values print as themselves where they can, the first elements of containers too.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace testing {

class Message {
 public:
  Message() = default;
  Message(const Message& other) { text_ << other.GetString(); }
  template <typename T>
  Message& operator<<(const T& value) {
    text_ << value;
    return *this;
  }
  std::string GetString() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

class Test {
 public:
  virtual ~Test() = default;
  virtual void SetUp() {}
  virtual void TearDown() {}
  virtual void TestBody() = 0;
  static bool HasFailure();
  static bool HasFatalFailure();
};

template <typename T>
class TestWithParam : public Test {
 public:
  using ParamType = T;
  static const T& GetParam() { return *param; }
  static inline const T* param = nullptr;  // of the test that is running
};

template <typename T>
struct TestParamInfo {
  T param;
  size_t index;
};

template <typename... T>
struct Types {};

// Generators: lists of parameters.
template <typename First, typename... Rest>
std::vector<First> Values(First first, Rest... rest) {
  return {std::move(first), std::move(rest)...};
}
template <typename List>
auto ValuesIn(const List& list) {
  return std::vector(std::begin(list), std::end(list));
}
template <typename A, typename B>
std::vector<std::tuple<A, B>> Combine(const std::vector<A>& first, const std::vector<B>& second) {
  std::vector<std::tuple<A, B>> all;
  for (const A& a : first) {
    for (const B& b : second) all.emplace_back(a, b);
  }
  return all;
}

namespace internal {

struct RegisteredTest {
  std::string name;  // "Suite.Name", with what GoogleTest writes before and behind for types and parameters
  std::function<std::unique_ptr<Test>()> make;
};

struct State {
  std::vector<RegisteredTest> tests;
  std::vector<std::function<void()>> expand;  // suites with parameters: adds their tests, once all are known
  std::vector<std::string> traces;
  bool failed = false, failed_fatally = false, skipped = false;  // the running test
};
inline State& GetState() {
  static State state;
  return state;
}

template <typename Fixture>
bool Register(const std::string& name) {
  GetState().tests.push_back({name, [] { return std::make_unique<Fixture>(); }});
  return true;
}

template <template <typename> class Fixture, typename... T>
bool RegisterTyped(const std::string& suite, const std::string& name, Types<T...>) {
  int index = 0;
  (Register<Fixture<T>>(suite + "/" + std::to_string(index++) + "." + name), ...);
  return true;
}

// The tests and the parameters of one suite, which are registered apart and in any order.
template <typename Suite>
struct ParamSuite {
  using Param = typename Suite::ParamType;
  struct Named {
    std::string name;
    Param param;
  };
  std::vector<std::pair<std::string, std::function<std::unique_ptr<Test>(const Param&)>>> tests;
  std::vector<Named> params;

  static ParamSuite& Get() {
    static ParamSuite* suite = [] {
      auto* made = new ParamSuite;
      GetState().expand.push_back([made] { made->Expand(); });
      return made;
    }();
    return *suite;
  }
  void Expand() {
    for (const auto& [test_name, make_test] : tests) {
      for (const Named& named : params) {
        const size_t slash = named.name.find('/');  // "Prefix/Suite" + "/parameter"
        const std::string suite = named.name.substr(0, named.name.find('/', slash + 1));
        const auto make = [&make_test = make_test, &named] { return make_test(named.param); };
        GetState().tests.push_back({suite + "." + test_name + named.name.substr(suite.size()), make});
      }
    }
  }
};

template <typename Suite, typename Fixture>
bool RegisterWithParam(const std::string& name) {
  ParamSuite<Suite>::Get().tests.emplace_back(name, [](const typename Suite::ParamType& param) {
    TestWithParam<typename Suite::ParamType>::param = &param;
    return std::make_unique<Fixture>();
  });
  return true;
}

template <typename Suite, typename Value, typename Namer>
bool Instantiate(const std::string& prefix, const std::vector<Value>& values, Namer name_of) {
  for (size_t i = 0; i < values.size(); ++i) {
    const typename Suite::ParamType param(values[i]);
    ParamSuite<Suite>::Get().params.push_back(
        {prefix + "/" + name_of(TestParamInfo<typename Suite::ParamType>{param, i}), param});
  }
  return true;
}
template <typename Suite, typename Value>
bool Instantiate(const std::string& prefix, const std::vector<Value>& values) {
  return Instantiate<Suite>(prefix, values, [](const auto& info) { return std::to_string(info.index); });
}

template <typename T>
void PrintValue(std::ostream& out, const T& value) {
  if constexpr (requires { out << value; }) {
    out << value;
  } else if constexpr (requires { value.begin(), value.end(); }) {
    size_t count = 0;
    out << "{";
    for (const auto& element : value) {
      if (count < 16) PrintValue(out << (count > 0 ? ", " : " "), element);
      ++count;
    }
    out << (count > 16 ? ", … }" : " }");
  } else {
    out << "(" << sizeof(T) << "-byte object)";
  }
}

// Empty: the assertion holds; otherwise why it does not.
class Verdict {
 public:
  Verdict() = default;
  explicit Verdict(std::string why) : failed_(true), why_(std::move(why)) {}
  explicit operator bool() const { return !failed_; }
  const std::string& why() const { return why_; }

 private:
  bool failed_ = false;
  std::string why_;
};

inline Verdict CheckBool(bool holds, const char* text, bool expected) {
  if (holds == expected) return Verdict();
  return Verdict(std::string("Value of: ") + text + "\nExpected: " + (expected ? "true" : "false"));
}

template <typename A, typename B, typename Compare>
Verdict CheckPair(const A& a, const B& b, const char* a_text, const char* b_text, const char* sign, Compare compare) {
  if (compare(a, b)) return Verdict();
  std::ostringstream why;
  why << "Expected: (" << a_text << ") " << sign << " (" << b_text << "), actual: ";
  PrintValue(why, a);
  PrintValue(why << " vs ", b);
  return Verdict(why.str());
}

inline Verdict CheckNear(double a, double b, double limit, const char* a_text, const char* b_text) {
  if (std::abs(a - b) <= limit) return Verdict();
  std::ostringstream why;
  why << "The difference between " << a_text << " and " << b_text << " is " << std::abs(a - b) << ", more than "
      << limit << ": " << a << " and " << b;
  return Verdict(why.str());
}

enum class Kind { kFailure, kFatalFailure, kSkip };

// Assigned a message, it records what happened; the value of the assignment is void, so that a macro can return it.
class Recorder {
 public:
  Recorder(Kind kind, const char* file, int line, std::string why)
      : kind_(kind), file_(file), line_(line), why_(std::move(why)) {}
  void operator=(const Message& message) const {
    State& state = GetState();
    if (kind_ == Kind::kSkip) {
      state.skipped = true;
    } else {
      state.failed = true;
      if (kind_ == Kind::kFatalFailure) state.failed_fatally = true;
    }
    std::cout << file_ << ":" << line_ << ": " << (kind_ == Kind::kSkip ? "Skipped" : "Failure") << "\n"
              << why_ << (why_.empty() ? "" : "\n") << message.GetString() << "\n";
    for (const std::string& trace : state.traces) std::cout << "  with " << trace << "\n";
    std::cout << std::flush;
  }

 private:
  Kind kind_;
  const char* file_;
  int line_;
  std::string why_;
};

class Trace {
 public:
  explicit Trace(const Message& message) { GetState().traces.push_back(message.GetString()); }
  Trace(const Trace&) = delete;
  ~Trace() { GetState().traces.pop_back(); }
};

}  // namespace internal

inline bool Test::HasFailure() { return internal::GetState().failed; }
inline bool Test::HasFatalFailure() { return internal::GetState().failed_fatally; }

// Runs what --gtest_filter selects and prints as GoogleTest does with --gtest_brief=1; the program's exit code.
int RunAllTests(int argc, char** argv);

}  // namespace testing

#define GTEST_SUBSET_FAIL(kind, why) \
  ::testing::internal::Recorder(::testing::internal::Kind::kind, __FILE__, __LINE__, why) = ::testing::Message()
// The switch keeps an `else` behind the macro from belonging to its `if`.
#define GTEST_SUBSET_EXPECT(verdict)                                                   \
  switch (0)                                                                           \
  case 0:                                                                              \
  default:                                                                             \
    if (const ::testing::internal::Verdict gtest_verdict = (verdict); gtest_verdict) { \
    } else                                                                             \
      GTEST_SUBSET_FAIL(kFailure, gtest_verdict.why())
#define GTEST_SUBSET_ASSERT(verdict)                                                   \
  switch (0)                                                                           \
  case 0:                                                                              \
  default:                                                                             \
    if (const ::testing::internal::Verdict gtest_verdict = (verdict); gtest_verdict) { \
    } else                                                                             \
      return GTEST_SUBSET_FAIL(kFatalFailure, gtest_verdict.why())
#define GTEST_SUBSET_PAIR(a, b, sign) \
  ::testing::internal::CheckPair(a, b, #a, #b, #sign, [](const auto& x, const auto& y) -> bool { return x sign y; })

#define EXPECT_TRUE(a) GTEST_SUBSET_EXPECT(::testing::internal::CheckBool(static_cast<bool>(a), #a, true))
#define EXPECT_FALSE(a) GTEST_SUBSET_EXPECT(::testing::internal::CheckBool(static_cast<bool>(a), #a, false))
#define EXPECT_EQ(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, ==))
#define EXPECT_NE(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, !=))
#define EXPECT_LT(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, <))
#define EXPECT_LE(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, <=))
#define EXPECT_GT(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, >))
#define EXPECT_GE(a, b) GTEST_SUBSET_EXPECT(GTEST_SUBSET_PAIR(a, b, >=))
#define EXPECT_NEAR(a, b, limit) GTEST_SUBSET_EXPECT(::testing::internal::CheckNear(a, b, limit, #a, #b))
#define ASSERT_TRUE(a) GTEST_SUBSET_ASSERT(::testing::internal::CheckBool(static_cast<bool>(a), #a, true))
#define ASSERT_FALSE(a) GTEST_SUBSET_ASSERT(::testing::internal::CheckBool(static_cast<bool>(a), #a, false))
#define ASSERT_EQ(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, ==))
#define ASSERT_NE(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, !=))
#define ASSERT_LT(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, <))
#define ASSERT_LE(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, <=))
#define ASSERT_GT(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, >))
#define ASSERT_GE(a, b) GTEST_SUBSET_ASSERT(GTEST_SUBSET_PAIR(a, b, >=))
#define ASSERT_NEAR(a, b, limit) GTEST_SUBSET_ASSERT(::testing::internal::CheckNear(a, b, limit, #a, #b))
#define ADD_FAILURE() GTEST_SUBSET_FAIL(kFailure, "Failed")
#define FAIL() return GTEST_SUBSET_FAIL(kFatalFailure, "Failed")
#define GTEST_SKIP() return GTEST_SUBSET_FAIL(kSkip, "")

#define GTEST_SUBSET_CONCAT_INNER(a, b) a##b
#define GTEST_SUBSET_CONCAT(a, b) GTEST_SUBSET_CONCAT_INNER(a, b)
#define SCOPED_TRACE(message) \
  const ::testing::internal::Trace GTEST_SUBSET_CONCAT(gtest_trace_, __LINE__)(::testing::Message() << (message))

#define GTEST_SUBSET_CLASS(suite, name) suite##_##name##_Test
#define GTEST_SUBSET_TEST(suite, name, base, registered)                             \
  class GTEST_SUBSET_CLASS(suite, name) : public base {                              \
    void TestBody() override;                                                        \
  };                                                                                 \
  [[maybe_unused]] static const bool gtest_registered_##suite##_##name = registered; \
  void GTEST_SUBSET_CLASS(suite, name)::TestBody()
#define TEST(suite, name)                         \
  GTEST_SUBSET_TEST(suite, name, ::testing::Test, \
                    ::testing::internal::Register<GTEST_SUBSET_CLASS(suite, name)>(#suite "." #name))
#define TEST_F(suite, name)             \
  GTEST_SUBSET_TEST(suite, name, suite, \
                    ::testing::internal::Register<GTEST_SUBSET_CLASS(suite, name)>(#suite "." #name))
#define TEST_P(suite, name)             \
  GTEST_SUBSET_TEST(suite, name, suite, \
                    (::testing::internal::RegisterWithParam<suite, GTEST_SUBSET_CLASS(suite, name)>(#name)))
#define INSTANTIATE_TEST_SUITE_P(prefix, suite, ...)                         \
  [[maybe_unused]] static const bool gtest_instantiated_##prefix##_##suite = \
      ::testing::internal::Instantiate<suite>(#prefix "/" #suite, __VA_ARGS__)

#define TYPED_TEST_SUITE(suite, types) using gtest_types_##suite = types
#define TYPED_TEST(suite, name)                                                                                  \
  template <typename gtest_type>                                                                                 \
  class GTEST_SUBSET_CLASS(suite, name) : public suite<gtest_type> {                                             \
    using TypeParam = gtest_type;                                                                                \
    using TestFixture = suite<gtest_type>;                                                                       \
    void TestBody() override;                                                                                    \
  };                                                                                                             \
  [[maybe_unused]] static const bool gtest_registered_##suite##_##name =                                         \
      ::testing::internal::RegisterTyped<GTEST_SUBSET_CLASS(suite, name)>(#suite, #name, gtest_types_##suite()); \
  template <typename gtest_type>                                                                                 \
  void GTEST_SUBSET_CLASS(suite, name)<gtest_type>::TestBody()
