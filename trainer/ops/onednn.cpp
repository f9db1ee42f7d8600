#include "trainer/ops/onednn.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <fmt/core.h>
#include <oneapi/dnnl/dnnl.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "base/error.h"

namespace autoglm::ops {
namespace {

// LibTorch holds another version of the library, some of whose templates it exports: this one looks for its own symbols
// first. (Sanitizers do not allow that.)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kBinding = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kBinding = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

// The functions in use; each means what dnnl.h says of its name.
class Library {
 public:
  Library() : handle_(::dlopen("libdnnl.so.3", kBinding)) {
    if (handle_ == nullptr) {
      const char* reason = ::dlerror();
      problem_ = reason == nullptr ? "libdnnl.so.3 was not found" : reason;
      return;
    }
#define AUTOGLM_LOAD(name) load(name, "dnnl_" #name)
    AUTOGLM_LOAD(version);
    AUTOGLM_LOAD(get_effective_cpu_isa);
    AUTOGLM_LOAD(engine_create);
    AUTOGLM_LOAD(stream_create);
    AUTOGLM_LOAD(memory_desc_create_with_strides);
    AUTOGLM_LOAD(memory_desc_destroy);
    AUTOGLM_LOAD(memory_desc_get_size);
    AUTOGLM_LOAD(primitive_attr_create);
    AUTOGLM_LOAD(primitive_attr_destroy);
    AUTOGLM_LOAD(primitive_attr_set_scratchpad_mode);
    AUTOGLM_LOAD(primitive_attr_set_post_ops);
    AUTOGLM_LOAD(post_ops_create);
    AUTOGLM_LOAD(post_ops_destroy);
    AUTOGLM_LOAD(post_ops_append_sum);
    AUTOGLM_LOAD(matmul_primitive_desc_create);
    AUTOGLM_LOAD(primitive_desc_destroy);
    AUTOGLM_LOAD(primitive_desc_query_md);
    AUTOGLM_LOAD(primitive_create);
    AUTOGLM_LOAD(primitive_destroy);
    AUTOGLM_LOAD(primitive_execute);
    AUTOGLM_LOAD(memory_create);
    AUTOGLM_LOAD(memory_destroy);
    AUTOGLM_LOAD(sgemm);
#undef AUTOGLM_LOAD
  }

  const std::string& problem() const {
    return problem_;
  }

#define AUTOGLM_FUNCTION(name) decltype(&dnnl_##name) name = nullptr
  AUTOGLM_FUNCTION(version);
  AUTOGLM_FUNCTION(get_effective_cpu_isa);
  AUTOGLM_FUNCTION(engine_create);
  AUTOGLM_FUNCTION(stream_create);
  AUTOGLM_FUNCTION(memory_desc_create_with_strides);
  AUTOGLM_FUNCTION(memory_desc_destroy);
  AUTOGLM_FUNCTION(memory_desc_get_size);
  AUTOGLM_FUNCTION(primitive_attr_create);
  AUTOGLM_FUNCTION(primitive_attr_destroy);
  AUTOGLM_FUNCTION(primitive_attr_set_scratchpad_mode);
  AUTOGLM_FUNCTION(primitive_attr_set_post_ops);
  AUTOGLM_FUNCTION(post_ops_create);
  AUTOGLM_FUNCTION(post_ops_destroy);
  AUTOGLM_FUNCTION(post_ops_append_sum);
  AUTOGLM_FUNCTION(matmul_primitive_desc_create);
  AUTOGLM_FUNCTION(primitive_desc_destroy);
  AUTOGLM_FUNCTION(primitive_desc_query_md);
  AUTOGLM_FUNCTION(primitive_create);
  AUTOGLM_FUNCTION(primitive_destroy);
  AUTOGLM_FUNCTION(primitive_execute);
  AUTOGLM_FUNCTION(memory_create);
  AUTOGLM_FUNCTION(memory_destroy);
  AUTOGLM_FUNCTION(sgemm);
#undef AUTOGLM_FUNCTION

 private:
  template <typename Function>
  void load(Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(handle_, name));
    if (function == nullptr && problem_.empty()) problem_ = fmt::format("libdnnl.so.3 has no {}", name);
  }

  void* handle_;  // stays open: compiled products may run until the process ends
  std::string problem_;
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

void check(dnnl_status_t status, const char* what) {
  AUTOGLM_CHECK(status == dnnl_success, "oneDNN: {} failed with status {}", what, static_cast<int>(status));
}

// Owns an object of the library.
template <typename T, auto Destroy>
struct Deleter {
  void operator()(T* object) const { (library().*Destroy)(object); }
};
using Description =
    std::unique_ptr<dnnl_memory_desc, Deleter<dnnl_memory_desc, &Library::memory_desc_destroy>>;
using Attributes =
    std::unique_ptr<dnnl_primitive_attr, Deleter<dnnl_primitive_attr, &Library::primitive_attr_destroy>>;
using PostOps = std::unique_ptr<dnnl_post_ops, Deleter<dnnl_post_ops, &Library::post_ops_destroy>>;
using Choice =
    std::unique_ptr<dnnl_primitive_desc, Deleter<dnnl_primitive_desc, &Library::primitive_desc_destroy>>;
using Primitive = std::unique_ptr<dnnl_primitive, Deleter<dnnl_primitive, &Library::primitive_destroy>>;
using Memory = std::unique_ptr<dnnl_memory, Deleter<dnnl_memory, &Library::memory_destroy>>;

struct Runtime {
  dnnl_engine_t engine = nullptr;
  dnnl_stream_t stream = nullptr;
};

// Lives as long as the process.
const Runtime& runtime() {
  static const Runtime made = [] {
    Runtime result;
    check(library().engine_create(&result.engine, dnnl_cpu, 0), "making an engine");
    check(library().stream_create(&result.stream, result.engine, dnnl_stream_default_flags),
          "making a stream");
    return result;
  }();
  return made;
}

// The library compiles for as many threads as OpenMP has; a product here runs on one, whatever else is divided.
class OneThread {
 public:
  explicit OneThread(bool needed = true) : before_(needed ? at::get_num_threads() : 0) {
    if (needed) at::set_num_threads(1);
  }
  ~OneThread() {
    if (before_ > 0) at::set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// Among several threads the library computes on one by itself; elsewhere some of its products would take all, and sum in
// another order.
bool takes_all_threads() {
  return !at::in_parallel_region() && at::get_num_threads() > 1;
}

Description describe(std::int64_t rows, std::int64_t columns, const MatrixLayout& layout) {
  const dnnl_dims_t extents = {rows, columns};
  const dnnl_dims_t strides = {layout.transposed ? 1 : layout.stride, layout.transposed ? layout.stride : 1};
  dnnl_memory_desc_t made = nullptr;
  check(library().memory_desc_create_with_strides(
            &made, 2, extents, layout.dtype == DType::bfloat16 ? dnnl_bf16 : dnnl_f32, strides),
        "describing a matrix");
  return Description(made);
}

Attributes attributes(bool adds) {
  dnnl_primitive_attr_t made = nullptr;
  check(library().primitive_attr_create(&made), "making attributes");
  Attributes result(made);
  check(library().primitive_attr_set_scratchpad_mode(made, dnnl_scratchpad_mode_user),
        "setting the scratchpad");
  if (!adds) return result;
  dnnl_post_ops_t list = nullptr;
  check(library().post_ops_create(&list), "making post-ops");
  const PostOps post_ops(list);
  check(library().post_ops_append_sum(list, 1.0F, 0, dnnl_data_type_undef), "adding a sum");
  check(library().primitive_attr_set_post_ops(made, list), "setting post-ops");
  return result;
}

// A product that is ready to run.
class Product {
 public:
  explicit Product(const ProductShape& shape)
      : a_(describe(shape.m, shape.k, shape.a)),
        b_(describe(shape.k, shape.n, shape.b)),
        c_(describe(shape.m, shape.n, shape.c)),
        bias_(shape.has_bias ? describe(1, shape.n, {shape.a.dtype, shape.n, false}) : nullptr) {
    const OneThread one_thread;
    const Attributes with = attributes(shape.adds);
    dnnl_primitive_desc_t chosen = nullptr;
    check(library().matmul_primitive_desc_create(&chosen, runtime().engine, a_.get(), b_.get(), bias_.get(),
                                                 c_.get(), with.get()),
          "describing a product");
    choice_.reset(chosen);
    scratch_ = library().primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0);
    scratch_bytes_ = library().memory_desc_get_size(scratch_);
  }

  std::size_t scratch_bytes() const { return scratch_bytes_; }

  void run(const void* a, const void* b, const void* bias, void* c, void* scratch) {
    std::call_once(compiled_, [this] {
      const OneThread one_thread;
      dnnl_primitive_t made = nullptr;
      check(library().primitive_create(&made, choice_.get()), "compiling a product");
      primitive_.reset(made);
    });
    const std::array memories{bind(a_.get(), a), bind(b_.get(), b), bind(c_.get(), c),
                              bind(scratch_, scratch), bias_ ? bind(bias_.get(), bias) : Memory()};
    const std::array arguments{dnnl_exec_arg_t{DNNL_ARG_SRC, memories[0].get()},
                               dnnl_exec_arg_t{DNNL_ARG_WEIGHTS, memories[1].get()},
                               dnnl_exec_arg_t{DNNL_ARG_DST, memories[2].get()},
                               dnnl_exec_arg_t{DNNL_ARG_SCRATCHPAD, memories[3].get()},
                               dnnl_exec_arg_t{DNNL_ARG_BIAS, memories[4].get()}};
    const OneThread one_thread(takes_all_threads());
    check(library().primitive_execute(primitive_.get(), runtime().stream, bias_ ? 5 : 4, arguments.data()),
          "a product");
  }

 private:
  static Memory bind(const_dnnl_memory_desc_t description, const void* data) {
    dnnl_memory_t made = nullptr;
    check(library().memory_create(&made, description, runtime().engine, const_cast<void*>(data)),
          "binding a matrix");
    return Memory(made);
  }

  Description a_, b_, c_, bias_;
  Choice choice_;
  const_dnnl_memory_desc_t scratch_ = nullptr;  // belongs to choice_
  std::size_t scratch_bytes_ = 0;
  std::once_flag compiled_;
  Primitive primitive_;
};

// Products by shape. A job has a few dozen shapes.
Product& product_of(const ProductShape& shape) {
  static std::shared_mutex mutex;
  static std::map<ProductShape, Product> products;
  {
    const std::shared_lock reading(mutex);
    if (const auto found = products.find(shape); found != products.end()) return found->second;
  }
  const std::unique_lock writing(mutex);
  return products.try_emplace(shape, shape).first->second;
}

}  // namespace

const OneDnn& onednn() {
  static const OneDnn found = [] {
    OneDnn result;
    result.problem = library().problem();
    result.present = result.problem.empty();
    if (!result.present) return result;
    const dnnl_version_t& version = *library().version();
    result.version = fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
    const auto has = [isa = static_cast<unsigned>(library().get_effective_cpu_isa())](unsigned set) {
      return (isa & set) == set;
    };
    result.has_avx512 = has(dnnl_cpu_isa_avx512_core);
    result.multiplies_bf16 = has(dnnl_cpu_isa_avx512_core_bf16);
    return result;
  }();
  return found;
}

std::size_t onednn_scratch_bytes(const ProductShape& shape) {
  return product_of(shape).scratch_bytes();
}

void onednn_product(const ProductShape& shape, const void* a, const void* b, const void* bias, void* c,
                    void* scratch) {
  product_of(shape).run(a, b, bias, c, scratch);
}

void onednn_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                  float* c, std::int64_t ldc) {
  const OneThread one_thread(takes_all_threads());
  check(library().sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb,
                        beta, c, ldc),
        "a product");
}

}  // namespace autoglm::ops
