// LibTorch's elementwise kernels that a training step launches: fills, sums of two, copies with and without a cast.
#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>

#include "tests/cuda_on_host/aten/offsets.h"
#include "tests/cuda_on_host/aten/substitutes.h"
#include "tests/cuda_on_host/runtime/bf16.h"

namespace cuda_on_host::aten {
namespace {

// c10::ScalarType
enum class Type : std::int8_t { int32 = 3, int64 = 4, fp32 = 6, fp64 = 7, bf16 = 15 };

std::size_t width(Type type) {
  switch (type) {
    case Type::bf16:
      return 2;
    case Type::int32:
    case Type::fp32:
      return 4;
    case Type::int64:
    case Type::fp64:
      return 8;
  }
  throw std::runtime_error("a cast from or to a type that is not emulated");
}

template <typename T>
T& at(void* data) {
  return *static_cast<T*>(data);
}

double load(void* data, Type type) {
  switch (type) {
    case Type::bf16:
      return static_cast<double>(widen(at<std::uint16_t>(data)));
    case Type::int32:
      return at<std::int32_t>(data);
    case Type::fp32:
      return static_cast<double>(at<float>(data));
    case Type::int64:
      return static_cast<double>(at<std::int64_t>(data));
    case Type::fp64:
      return at<double>(data);
  }
  throw std::runtime_error("a cast from a type that is not emulated");
}

void store(void* data, Type type, double value) {
  switch (type) {
    case Type::bf16:
      at<std::uint16_t>(data) = narrow(static_cast<float>(value));
      return;
    case Type::int32:
      at<std::int32_t>(data) = static_cast<std::int32_t>(value);
      return;
    case Type::fp32:
      at<float>(data) = static_cast<float>(value);
      return;
    case Type::int64:
      at<std::int64_t>(data) = static_cast<std::int64_t>(value);
      return;
    case Type::fp64:
      at<double>(data) = value;
      return;
  }
  throw std::runtime_error("a cast to a type that is not emulated");
}

template <typename T, int N>
struct Pointers {
  T* data[N];
};

// Operands that hold so many elements one after the other.
template <typename T, int N>
void require_dense(void** arguments, int i, int count) {
  const auto seen = raw_argument<Pointers<T, N>>(arguments, i);
  for (const T* data : seen.data) require_operand(data, static_cast<std::size_t>(count) * sizeof(T));
}

template <typename T>
Work bind_fill(const Launch&, void** arguments) {
  const int count = argument<int>(arguments, 0);
  const T value = argument<T>(arguments, 1);
  T* const to = argument<T*>(arguments, 2);
  require_dense<T, 1>(arguments, 2, count);
  return [=] {
    for (int i = 0; i < count; ++i) to[i] = value;
  };
}

Work bind_add_bf16(const Launch&, void** arguments) {
  const int count = argument<int>(arguments, 0);
  const float alpha = argument<float>(arguments, 1);
  const auto operands = argument<Pointers<std::uint16_t, 3>>(arguments, 2);
  require_dense<std::uint16_t, 3>(arguments, 2, count);
  return [=] {
    const auto [to, a, b] = operands.data;
    for (int i = 0; i < count; ++i) to[i] = narrow(widen(a[i]) + alpha * widen(b[i]));
  };
}

Work bind_add_fp32(const Launch&, void** arguments) {
  const int count = argument<int>(arguments, 0);
  const float alpha = argument<float>(arguments, 1);
  const auto operands = argument<Pointers<float, 3>>(arguments, 2);
  require_dense<float, 3>(arguments, 2, count);
  return [=] {
    const auto [to, a, b] = operands.data;
    for (int i = 0; i < count; ++i) to[i] = a[i] + alpha * b[i];
  };
}

Work bind_narrowing(const Launch&, void** arguments) {
  const int count = argument<int>(arguments, 0);
  const auto operands = argument<Pointers<char, 2>>(arguments, 2);
  const auto seen = raw_argument<Pointers<char, 2>>(arguments, 2);
  require_operand(seen.data[0], 2 * static_cast<std::size_t>(count));
  require_operand(seen.data[1], 4 * static_cast<std::size_t>(count));
  return [=] {
    for (int i = 0; i < count; ++i) {
      store(operands.data[0] + 2 * i, Type::bf16, load(operands.data[1] + 4 * i, Type::fp32));
    }
  };
}

struct Cast {
  Type type;
  std::uint32_t width;
};

Work bind_cast(const Launch&, void** arguments) {
  const int count = argument<int>(arguments, 0);
  const auto operands = argument<Pointers<char, 2>>(arguments, 2);
  const auto from = argument<Cast>(arguments, 5), to = argument<Cast>(arguments, 6);
  if (from.width != width(from.type) || to.width != width(to.type)) {
    throw std::runtime_error("a cast of another layout than that of LibTorch 2.11");
  }
  const auto seen = raw_argument<Pointers<char, 2>>(arguments, 2);
  require_operand(seen.data[0], static_cast<std::size_t>(count) * to.width);
  require_operand(seen.data[1], static_cast<std::size_t>(count) * from.width);
  return [=] {
    for (int i = 0; i < count; ++i) {
      store(operands.data[0] + i * to.width, to.type, load(operands.data[1] + i * from.width, from.type));
    }
  };
}

// The closure of a strided copy. A copy without casts has no types in it.
struct StridedCopy {
  Offsets<2> offsets;
  char* data[2];
  char function;
  Type types[2];
};

// From one type to another, where the kernel is made for them.
using Types = std::optional<std::array<Type, 2>>;

Work bind_strided(void** arguments, const Types& types) {
  const int count = argument<int>(arguments, 0);
  auto copy = argument<StridedCopy>(arguments, 1);
  if (types) copy.types[0] = (*types)[0], copy.types[1] = (*types)[1];
  const auto seen = raw_argument<StridedCopy>(arguments, 1);
  copy.offsets.check(static_cast<std::uint32_t>(count));
  const auto extents = copy.offsets.extents();
  for (int n = 0; n < 2; ++n) require_operand(seen.data[n], extents[n] + width(copy.types[n]));
  return [=] {
    for (int i = 0; i < count; ++i) {
      const auto place = copy.offsets.of(static_cast<std::uint32_t>(i));
      store(copy.data[0] + place[0], copy.types[0], load(copy.data[1] + place[1], copy.types[1]));
    }
  };
}

// None where the closure says them, or where they are not known.
Types types_of_strided(const std::string& name, bool narrows) {
  if (!contains(name, "gpu_kernel_impl_nocast")) return std::nullopt;
  if (narrows) return {{Type::bf16, Type::fp32}};
  if (contains(name, "{lambda(float)#")) return {{Type::fp32, Type::fp32}};
  if (contains(name, "{lambda(c10::BFloat16)#")) return {{Type::bf16, Type::bf16}};
  return std::nullopt;
}

Binder find(const std::string& name) {
  const bool vectorized = starts_with(name, "void at::native::vectorized_elementwise_kernel<");
  const bool dense = vectorized || starts_with(name, "void at::native::unrolled_elementwise_kernel<");
  const bool strided = starts_with(name, "void at::native::elementwise_kernel<");
  const bool copies = contains(name, "direct_copy_kernel_cuda");
  const bool narrows = contains(name, "bfloat16_copy_kernel_cuda");
  if (strided && (copies || narrows)) {
    const Types types = types_of_strided(name, narrows);
    if (!types && contains(name, "gpu_kernel_impl_nocast")) return nullptr;
    return [=](const Launch&, void** arguments) { return bind_strided(arguments, types); };
  }
  if (!dense) return nullptr;
  if (contains(name, "FillFunctor<float>, std::array<char*, 1ul>")) return bind_fill<float>;
  if (contains(name, "FillFunctor<double>, std::array<char*, 1ul>")) return bind_fill<double>;
  if (contains(name, "FillFunctor<c10::BFloat16>, std::array<char*, 1ul>")) return bind_fill<std::uint16_t>;
  if (contains(name, "FillFunctor<int>, std::array<char*, 1ul>")) return bind_fill<std::int32_t>;
  if (contains(name, "FillFunctor<long>, std::array<char*, 1ul>")) return bind_fill<std::int64_t>;
  if (contains(name, "CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>")) return bind_add_bf16;
  if (contains(name, "CUDAFunctor_add<float>, std::array<char*, 3ul>")) return bind_add_fp32;
  if (vectorized && narrows) return bind_narrowing;
  if (copies && contains(name, "LoadWithCast<1>")) return bind_cast;
  return nullptr;
}

[[maybe_unused]] const bool added = (add_finder(find), true);

}  // namespace
}  // namespace cuda_on_host::aten
