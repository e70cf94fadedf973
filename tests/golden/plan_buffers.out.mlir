#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
#map2 = affine_map<(d0, d1) -> ()>
#map3 = affine_map<(d0, d1) -> (d1, d0)>
#map4 = affine_map<(d0, d1) -> (d0)>
#map5 = affine_map<(d0) -> (d0)>
#map6 = affine_map<(d0) -> ()>
module attributes {keras.stage = "plan"} {
  module @kernels {
    func.func private @dense_matmul_add_relu_gt_0(%arg0: tensor<4x3xf32>, %arg1: tensor<3x2xf32>, %arg2: tensor<2xf32>) -> (tensor<4x2xf32>, tensor<4x2xi1>) attributes {keras.kernel = "matmul", keras.layers = ["model/dense"]} {
      %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
      %1 = tensor.empty() : tensor<4x2xf32>
      %2 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%0, %arg2 : tensor<4x2xf32>, tensor<2xf32>) outs(%1 : tensor<4x2xf32>) attrs =  {keras.op = "relu"} {
      ^bb0(%in: f32, %in_0: f32, %out: f32):
        %5 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
        %cst = arith.constant 0.000000e+00 : f32
        %6 = arith.maximumf %5, %cst fastmath<reassoc,nsz,contract> : f32
        linalg.yield %6 : f32
      } -> tensor<4x2xf32>
      %3 = tensor.empty() : tensor<4x2xi1>
      %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<4x2xf32>) outs(%3 : tensor<4x2xi1>) attrs =  {keras.op = "gt"} {
      ^bb0(%in: f32, %out: i1):
        %cst = arith.constant 0.000000e+00 : f32
        %5 = arith.cmpf ogt, %in, %cst : f32
        linalg.yield %5 : i1
      } -> tensor<4x2xi1>
      return %2, %4 : tensor<4x2xf32>, tensor<4x2xi1>
    }
    func.func private @softmax_softmax_1(%arg0: tensor<4x2xf32>) -> tensor<4x2xf32> attributes {keras.kernel = "softmax", keras.layers = ["model/softmax"]} {
      %0 = "keras.softmax"(%arg0) : (tensor<4x2xf32>) -> tensor<4x2xf32>
      return %0 : tensor<4x2xf32>
    }
    func.func private @loss_sum_2(%arg0: tensor<4x2xf32>) -> tensor<f32> attributes {keras.kernel = "loop", keras.layers = ["loss"], keras.reason = ["softmax_softmax_1: takes no epilogue"]} {
      %0 = tensor.empty() : tensor<f32>
      %cst = arith.constant 0.000000e+00 : f32
      %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<f32>) -> tensor<f32>
      %2 = linalg.generic {indexing_maps = [#map, #map2], iterator_types = ["reduction", "reduction"]} ins(%arg0 : tensor<4x2xf32>) outs(%1 : tensor<f32>) attrs =  {keras.op = "sum"} {
      ^bb0(%in: f32, %out: f32):
        %3 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
        linalg.yield %3 : f32
      } -> tensor<f32>
      return %2 : tensor<f32>
    }
    func.func private @dense_select_3(%arg0: tensor<4x2xi1>, %arg1: tensor<4x2xf32>) -> tensor<4x2xf32> attributes {keras.kernel = "loop", keras.layers = ["model/dense"], keras.reason = ["dense_matmul_add_relu_gt_0: would make a cycle", "softmax_softmax_1: takes no epilogue"]} {
      %0 = tensor.empty() : tensor<4x2xf32>
      %1 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<4x2xi1>, tensor<4x2xf32>) outs(%0 : tensor<4x2xf32>) attrs =  {keras.op = "select"} {
      ^bb0(%in: i1, %in_0: f32, %out: f32):
        %cst = arith.constant 0.000000e+00 : f32
        %2 = arith.select %in, %in_0, %cst : f32
        linalg.yield %2 : f32
      } -> tensor<4x2xf32>
      return %1 : tensor<4x2xf32>
    }
    func.func private @dense_sum_4(%arg0: tensor<4x2xf32>) -> tensor<2xf32> attributes {keras.kernel = "loop", keras.layers = ["model/dense"], keras.reason = ["dense_select_3: stored in another order than the reduction goes"]} {
      %0 = tensor.empty() : tensor<2xf32>
      %cst = arith.constant 0.000000e+00 : f32
      %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<2xf32>) -> tensor<2xf32>
      %2 = linalg.generic {indexing_maps = [#map3, #map4], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<4x2xf32>) outs(%1 : tensor<2xf32>) attrs =  {keras.op = "sum"} {
      ^bb0(%in: f32, %out: f32):
        %3 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
        linalg.yield %3 : f32
      } -> tensor<2xf32>
      return %2 : tensor<2xf32>
    }
    func.func private @dense_matmul_5(%arg0: tensor<4x3xf32>, %arg1: tensor<4x2xf32>) -> tensor<3x2xf32> attributes {keras.kernel = "matmul", keras.layers = ["model/dense"]} {
      %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
      return %0 : tensor<3x2xf32>
    }
    func.func private @optimizer_x2_0(%arg0: tensor<3x2xf32>, %arg1: tensor<3x2xf32>, %arg2: tensor<f32>, %arg3: tensor<3x2xf32>, %arg4: tensor<2xf32>, %arg5: tensor<2xf32>, %arg6: tensor<f32>, %arg7: tensor<2xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>, tensor<2xf32>, tensor<2xf32>) attributes {keras.instances = 2 : i64, keras.kernel = "multi", keras.layers = ["optimizer"], keras.reason = ["dense_matmul_5: kept apart so that the updates of all parameters make one kernel", "dense_sum_4: kept apart so that the updates of all parameters make one kernel"]} {
      %0 = tensor.empty() : tensor<3x2xf32>
      %1 = linalg.generic {indexing_maps = [#map, #map, #map2, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1, %arg2 : tensor<3x2xf32>, tensor<3x2xf32>, tensor<f32>) outs(%0 : tensor<3x2xf32>) attrs =  {keras.op = "sub"} {
      ^bb0(%in: f32, %in_0: f32, %in_1: f32, %out: f32):
        %cst = arith.constant 0.899999976 : f32
        %8 = arith.mulf %in, %cst fastmath<reassoc,nsz,contract> : f32
        %9 = arith.mulf %in_0, %in_1 fastmath<reassoc,nsz,contract> : f32
        %10 = arith.subf %8, %9 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %10 : f32
      } -> tensor<3x2xf32>
      %2 = tensor.empty() : tensor<3x2xf32>
      %3 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg3, %1 : tensor<3x2xf32>, tensor<3x2xf32>) outs(%2 : tensor<3x2xf32>) attrs =  {keras.op = "add"} {
      ^bb0(%in: f32, %in_0: f32, %out: f32):
        %8 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %8 : f32
      } -> tensor<3x2xf32>
      %4 = tensor.empty() : tensor<2xf32>
      %5 = linalg.generic {indexing_maps = [#map5, #map5, #map6, #map5], iterator_types = ["parallel"]} ins(%arg4, %arg5, %arg6 : tensor<2xf32>, tensor<2xf32>, tensor<f32>) outs(%4 : tensor<2xf32>) attrs =  {keras.op = "sub"} {
      ^bb0(%in: f32, %in_0: f32, %in_1: f32, %out: f32):
        %cst = arith.constant 0.899999976 : f32
        %8 = arith.mulf %in, %cst fastmath<reassoc,nsz,contract> : f32
        %9 = arith.mulf %in_0, %in_1 fastmath<reassoc,nsz,contract> : f32
        %10 = arith.subf %8, %9 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %10 : f32
      } -> tensor<2xf32>
      %6 = tensor.empty() : tensor<2xf32>
      %7 = linalg.generic {indexing_maps = [#map5, #map5, #map5], iterator_types = ["parallel"]} ins(%arg7, %5 : tensor<2xf32>, tensor<2xf32>) outs(%6 : tensor<2xf32>) attrs =  {keras.op = "add"} {
      ^bb0(%in: f32, %in_0: f32, %out: f32):
        %8 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
        linalg.yield %8 : f32
      } -> tensor<2xf32>
      return %1, %3, %5, %7 : tensor<3x2xf32>, tensor<3x2xf32>, tensor<2xf32>, tensor<2xf32>
    }
  }
  module @plan {
    func.func private @dense_matmul_add_relu_gt_0(memref<4x3xf32>, memref<3x2xf32>, memref<2xf32>, memref<4x2xf32>, memref<4x2xi1>) attributes {keras.outputs = 2 : i64}
    func.func private @softmax_softmax_1(memref<4x2xf32>, memref<4x2xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @loss_sum_2(memref<4x2xf32>, memref<f32>) attributes {keras.outputs = 1 : i64}
    func.func private @dense_select_3(memref<4x2xi1>, memref<4x2xf32>, memref<4x2xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @dense_sum_4(memref<4x2xf32>, memref<2xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @dense_matmul_5(memref<4x3xf32>, memref<4x2xf32>, memref<3x2xf32>) attributes {keras.outputs = 1 : i64}
    func.func private @optimizer_x2_0(memref<3x2xf32>, memref<3x2xf32>, memref<f32>, memref<3x2xf32>, memref<2xf32>, memref<2xf32>, memref<f32>, memref<2xf32>, memref<3x2xf32>, memref<3x2xf32>, memref<2xf32>, memref<2xf32>) attributes {keras.outputs = 4 : i64}
    func.func @main(%arg0: memref<4x3xf32> {keras.name = "x"}, %arg1: memref<3x2xf32> {keras.donated = 1 : i64, keras.name = "w"}, %arg2: memref<2xf32> {keras.donated = 2 : i64, keras.name = "b"}, %arg3: memref<3x2xf32> {keras.donated = 3 : i64, keras.name = "mw"}, %arg4: memref<2xf32> {keras.donated = 4 : i64, keras.name = "mb"}, %arg5: memref<f32> {keras.name = "rate"}, %arg6: memref<f32>, %arg7: memref<192xi8>) {
      %c0 = arith.constant 0 : index
      %c64 = arith.constant 64 : index
      %c128 = arith.constant 128 : index
      %view = memref.view %arg7[%c0][] : memref<192xi8> to memref<4x2xf32>
      %view_0 = memref.view %arg7[%c64][] : memref<192xi8> to memref<4x2xi1>
      call @dense_matmul_add_relu_gt_0(%arg0, %arg1, %arg2, %view, %view_0) : (memref<4x3xf32>, memref<3x2xf32>, memref<2xf32>, memref<4x2xf32>, memref<4x2xi1>) -> ()
      %view_1 = memref.view %arg7[%c128][] : memref<192xi8> to memref<4x2xf32>
      call @softmax_softmax_1(%view, %view_1) : (memref<4x2xf32>, memref<4x2xf32>) -> ()
      call @loss_sum_2(%view_1, %arg6) : (memref<4x2xf32>, memref<f32>) -> ()
      call @dense_select_3(%view_0, %view_1, %view_1) : (memref<4x2xi1>, memref<4x2xf32>, memref<4x2xf32>) -> ()
      %view_2 = memref.view %arg7[%c0][] : memref<192xi8> to memref<2xf32>
      call @dense_sum_4(%view_1, %view_2) : (memref<4x2xf32>, memref<2xf32>) -> ()
      %view_3 = memref.view %arg7[%c64][] : memref<192xi8> to memref<3x2xf32>
      call @dense_matmul_5(%arg0, %view_1, %view_3) : (memref<4x3xf32>, memref<4x2xf32>, memref<3x2xf32>) -> ()
      call @optimizer_x2_0(%arg3, %view_3, %arg5, %arg1, %arg4, %view_2, %arg5, %arg2, %arg3, %arg1, %arg4, %arg2) : (memref<3x2xf32>, memref<3x2xf32>, memref<f32>, memref<3x2xf32>, memref<2xf32>, memref<2xf32>, memref<f32>, memref<2xf32>, memref<3x2xf32>, memref<3x2xf32>, memref<2xf32>, memref<2xf32>) -> ()
      return
    }
  }
}
