#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1, d2) -> (d0, d1)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#map3 = affine_map<(d0, d1, d2) -> (d0, d2)>
#map4 = affine_map<(d0, d1) -> ()>
module attributes {keras.stage = "plan"} {
  module @kernels {
    func.func private @embedding_lt_add_select_0(%arg0: tensor<2x4xi64>) -> tensor<2x4xi64> attributes {keras.kernel = "loop", keras.layers = ["model/embedding"]} {
      %0 = tensor.empty() : tensor<2x4xi64>
      %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0 : tensor<2x4xi64>) outs(%0 : tensor<2x4xi64>) attrs =  {keras.op = "select"} {
      ^bb0(%in: i64, %out: i64):
        %c0_i64 = arith.constant 0 : i64
        %2 = arith.cmpi slt, %in, %c0_i64 : i64
        %c5_i64 = arith.constant 5 : i64
        %3 = arith.addi %in, %c5_i64 : i64
        %4 = arith.select %2, %3, %in : i64
        linalg.yield %4 : i64
      } -> tensor<2x4xi64>
      return %1 : tensor<2x4xi64>
    }
    func.func private @embedding_gather_add_1(%arg0: tensor<2x4xi64>, %arg1: tensor<5x3xf32>) -> tensor<2x4x3xf32> attributes {keras.kernel = "loop", keras.layers = ["model/embedding", "model/embedding/grad"]} {
      %0 = tensor.empty() : tensor<2x4x3xf32>
      %1 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%arg0 : tensor<2x4xi64>) outs(%0 : tensor<2x4x3xf32>) attrs =  {keras.op = "add"} {
      ^bb0(%in: i64, %out: f32):
        %c0_i64 = arith.constant 0 : i64
        %2 = arith.cmpi slt, %in, %c0_i64 : i64
        %c5_i64 = arith.constant 5 : i64
        %3 = arith.addi %in, %c5_i64 : i64
        %4 = arith.select %2, %3, %in : i64
        %5 = arith.cmpi ult, %4, %c5_i64 : i64
        %6 = arith.select %5, %4, %c0_i64 : i64
        %7 = arith.index_cast %6 : i64 to index
        %8 = linalg.index 2 : index
        %extracted = tensor.extract %arg1[%7, %8] : tensor<5x3xf32>
        %cst = arith.constant 0x7FC00000 : f32
        %9 = arith.select %5, %extracted, %cst : f32
        %10 = arith.addf %9, %9 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %10 : f32
      } -> tensor<2x4x3xf32>
      return %1 : tensor<2x4x3xf32>
    }
    func.func private @pooling_sum_2(%arg0: tensor<2x4xi64>, %arg1: tensor<5x3xf32>) -> tensor<2x3xf32> attributes {keras.kernel = "loop", keras.layers = ["model/pooling"]} {
      %0 = tensor.empty() : tensor<2x3x4xf32>
      %1 = linalg.generic {indexing_maps = [#map3, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%arg0 : tensor<2x4xi64>) outs(%0 : tensor<2x3x4xf32>) attrs =  {keras.op = "sum"} {
      ^bb0(%in: i64, %out: f32):
        %c0_i64 = arith.constant 0 : i64
        %5 = arith.cmpi slt, %in, %c0_i64 : i64
        %c5_i64 = arith.constant 5 : i64
        %6 = arith.addi %in, %c5_i64 : i64
        %7 = arith.select %5, %6, %in : i64
        %8 = arith.cmpi ult, %7, %c5_i64 : i64
        %9 = arith.select %8, %7, %c0_i64 : i64
        %10 = arith.index_cast %9 : i64 to index
        %11 = linalg.index 1 : index
        %extracted = tensor.extract %arg1[%10, %11] : tensor<5x3xf32>
        %cst_0 = arith.constant 0x7FC00000 : f32
        %12 = arith.select %8, %extracted, %cst_0 : f32
        linalg.yield %12 : f32
      } -> tensor<2x3x4xf32>
      %2 = tensor.empty() : tensor<2x3xf32>
      %cst = arith.constant 0.000000e+00 : f32
      %3 = linalg.fill ins(%cst : f32) outs(%2 : tensor<2x3xf32>) -> tensor<2x3xf32>
      %4 = linalg.generic {indexing_maps = [#map2, #map1], iterator_types = ["parallel", "parallel", "reduction"]} ins(%1 : tensor<2x3x4xf32>) outs(%3 : tensor<2x3xf32>) attrs =  {keras.op = "sum"} {
      ^bb0(%in: f32, %out: f32):
        %5 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
        linalg.yield %5 : f32
      } -> tensor<2x3xf32>
      return %4 : tensor<2x3xf32>
    }
    func.func private @embedding_scatter_3(%arg0: tensor<2x4x3xf32>, %arg1: tensor<2x4xi64>) -> tensor<5x3xf32> attributes {keras.kernel = "scatter", keras.layers = ["model/embedding/grad"], keras.reason = ["embedding_gather_add_1: different kinds of kernel", "embedding_lt_add_select_0: different kinds of kernel"]} {
      %0 = "keras.scatter"(%arg0, %arg1) {fold = "sum", rows = 5 : i64} : (tensor<2x4x3xf32>, tensor<2x4xi64>) -> tensor<5x3xf32>
      return %0 : tensor<5x3xf32>
    }
    func.func private @optimizer_mul_sub_4(%arg0: tensor<5x3xf32>, %arg1: tensor<5x3xf32>, %arg2: tensor<f32>) -> tensor<5x3xf32> attributes {keras.kernel = "loop", keras.layers = ["optimizer"], keras.reason = ["embedding_scatter_3: takes no epilogue"]} {
      %0 = tensor.empty() : tensor<5x3xf32>
      %1 = linalg.generic {indexing_maps = [#map, #map, #map4, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1, %arg2 : tensor<5x3xf32>, tensor<5x3xf32>, tensor<f32>) outs(%0 : tensor<5x3xf32>) attrs =  {keras.op = "sub"} {
      ^bb0(%in: f32, %in_0: f32, %in_1: f32, %out: f32):
        %2 = arith.mulf %in_0, %in_1 fastmath<reassoc,nsz,contract> : f32
        %3 = arith.subf %in, %2 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %3 : f32
      } -> tensor<5x3xf32>
      return %1 : tensor<5x3xf32>
    }
  }
  module @plan {
    func.func private @embedding_lt_add_select_0(memref<2x4xi64>, memref<2x4xi64>) attributes {keras.outputs = 1 : i64}
    func.func private @embedding_gather_add_1(memref<2x4xi64>, memref<5x3xf32>, memref<2x4x3xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @pooling_sum_2(memref<2x4xi64>, memref<5x3xf32>, memref<2x3xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @embedding_scatter_3(memref<2x4x3xf32>, memref<2x4xi64>, memref<5x3xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @optimizer_mul_sub_4(memref<5x3xf32>, memref<5x3xf32>, memref<f32>, memref<5x3xf32>) attributes {keras.outputs = 1 : i64}
    func.func @main(%arg0: memref<5x3xf32> {keras.donated = 1 : i64, keras.name = "table"}, %arg1: memref<2x4xi64> {keras.name = "tokens"}, %arg2: memref<f32> {keras.name = "rate"}, %arg3: memref<2x3xf32>, %arg4: memref<256xi8>) {
      %c128 = arith.constant 128 : index
      %c0 = arith.constant 0 : index
      %c192 = arith.constant 192 : index
      %view = memref.view %arg4[%c128][] : memref<256xi8> to memref<2x4xi64>
      call @embedding_lt_add_select_0(%arg1, %view) : (memref<2x4xi64>, memref<2x4xi64>) -> ()
      %view_0 = memref.view %arg4[%c0][] : memref<256xi8> to memref<2x4x3xf32>
      call @embedding_gather_add_1(%arg1, %arg0, %view_0) : (memref<2x4xi64>, memref<5x3xf32>, memref<2x4x3xf32>) -> ()
      call @pooling_sum_2(%arg1, %arg0, %arg3) : (memref<2x4xi64>, memref<5x3xf32>, memref<2x3xf32>) -> ()
      %view_1 = memref.view %arg4[%c192][] : memref<256xi8> to memref<5x3xf32>
      call @embedding_scatter_3(%view_0, %view, %view_1) : (memref<2x4x3xf32>, memref<2x4xi64>, memref<5x3xf32>) -> ()
      call @optimizer_mul_sub_4(%arg0, %view_1, %arg2, %arg0) : (memref<5x3xf32>, memref<5x3xf32>, memref<f32>, memref<5x3xf32>) -> ()
      return
    }
  }
}
